package spackinstall

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// The hash of a package that is developed has the directory of its sources in it,
// and not what the sources are. So such a package, and each that depends on one, is
// never taken from a binary cache, nor sent to one.

// developDir has the sources that are not below the environment's directory. What
// is beside that in the image is not the environment's to write to.
const developDir = "develop"

// addSources adds the sources of develop that are in the build context, and returns
// keys of them. Dir is the environment's directory there.
func (in *Inputs) addSources(c Context, dir string) (keys []string, err error) {
	for _, dev := range in.develop {
		source, target := dev.place.source, dev.place.target
		if leaves(source) {
			return nil, outside("develop: "+dev.Name, dev.Path)
		}
		if leaves(target) {
			target = path.Join(developDir, dev.Name)
			in.moved = append(in.moved, dev.Develop)
		}
		files, err := c.Files(source, exclude(source, dir)...)
		if err != nil {
			return nil, err
		}
		keys = append(keys, target, files.Key())
		in.sources = append(in.sources, placed{target: target, files: files})
		if index, err := c.Files(path.Join(source, gitIndex)); err == nil {
			in.sources = append(in.sources, placed{target: path.Join(target, gitIndex), files: index, optional: true})
		}
	}
	return keys, nil
}

// gitIndex is changed by commands that only look, such as git status: it comes
// along, since without it all files seem to be deleted, and does not count.
const gitIndex = ".git/index"

// exclude returns patterns for what is not part of the sources in a directory:
// what Git writes when the sources stay the same, and the environment's own files,
// if it is in there.
func exclude(source, environment string) []string {
	patterns := []string{gitIndex, ".git/*.lock", ".git/logs", ".git/FETCH_HEAD", ".git/ORIG_HEAD", ".git/COMMIT_EDITMSG", ".git/gc.log"}
	source, environment = path.Join("/", source), path.Join("/", environment)
	below, ok := strings.CutPrefix(environment+"/", strings.TrimSuffix(source, "/")+"/")
	if !ok {
		return patterns
	}
	for _, name := range []string{spack.EnvironmentFileName, spack.LockFileName, ".spack-env"} {
		patterns = append(patterns, strings.TrimPrefix(path.Join("/", below, name), "/"))
	}
	return patterns
}

// movedSources is the configuration of those sources that are not where the
// environment has them.
func (j *Job) movedSources() map[string]any {
	develop := map[string]any{}
	for _, dev := range j.Inputs.moved {
		develop[dev.Name] = map[string]any{"spec": dev.Spec, "path": path.Join(j.dir, developDir, dev.Name)}
	}
	return develop
}

// localCache is the local binary cache as a mirror. Spack before 1.3 does not know
// filters: dropDeveloped removes what it pushes.
func (j *Job) localCache() map[string]any {
	mirror := map[string]any{"url": "file://" + mountCache, "source": false, "binary": true, "autopush": true, "signed": false}
	if len(j.developed) > 0 && j.atLeastOne(3) {
		mirror["exclude_binary"] = []string{"dev_path=*", "^dev_path=*"}
	}
	return mirror
}

// withoutDeveloped removes developed packages from the local cache: earlier builds
// with the same hash have left them there.
func (j *Job) withoutDeveloped(ctx context.Context, local *spackmirror.Source) error {
	for hash := range j.developed {
		if local.Has[hash] {
			return j.Store.Remove(ctx, j.developed, false)
		}
	}
	return nil
}

// dropDeveloped removes the developed packages that this Spack has pushed to the
// local cache.
func (j *Job) dropDeveloped(ctx context.Context) {
	if j.atLeastOne(3) {
		return
	}
	if err := j.Store.Remove(ctx, j.developed, false); err != nil {
		j.warn(fmt.Sprintf("developed packages stay in the local binary cache, and are removed by the next build: %v", err))
	}
}

// outdateDeveloped makes Spack install anew the developed packages that the image
// has. Spack goes by the times of their sources, which layers do not keep.
func (j *Job) outdateDeveloped() error {
	outdated := false
	for hash := range j.developed {
		outdated = outdated || j.installed[hash] != ""
		delete(j.installed, hash)
	}
	if !outdated {
		return nil
	}
	var dirs []string
	for _, s := range j.lock.Specs {
		if dir := s.DevPath(); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	now := unix.NsecToTimespec(time.Now().UnixNano())
	for _, dir := range slices.Compact(dirs) {
		f, err := j.step.Root().Open(dir)
		if err != nil {
			return &failure.InputError{Subject: "develop", Err: err, Hint: "its path is a directory beside spack.yaml, or one that an earlier step makes in the image"}
		}
		err = unix.UtimesNanoAt(int(f.Fd()), ".", []unix.Timespec{now, now}, 0)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("set the time of %s: %w", dir, err)
		}
	}
	return nil
}
