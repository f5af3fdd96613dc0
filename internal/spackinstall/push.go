package spackinstall

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

//go:embed private.py
var privateScript []byte

// push sends the environment's packages to the mirrors that the step names and to
// those with autopush and, if wanted, the image that gets a tag there.
func (j *Job) push(ctx context.Context, withImage bool) error {
	mirrors, err := pushedTo(j.Recipe, j.mirrors, false)
	if err != nil {
		return err
	}
	automatic := j.autopush(mirrors)
	if len(mirrors)+len(automatic) == 0 {
		return nil
	}
	hashes, err := j.ownHashes(ctx)
	if err != nil {
		return err
	}
	var images map[string]buildcache.Image
	if withImage && len(mirrors) > 0 {
		if images, err = j.imagesOfPackages(ctx, hashes); err != nil {
			return err
		}
	}
	if err := j.Mirrors.Push(ctx, mirrors, hashes, images, j.transferred("pushed")); err != nil {
		return err
	}
	return j.Mirrors.Push(ctx, automatic, hashes, nil, j.transferred("pushed"))
}

// autopush returns the mirrors that say autopush, beside those that the step
// names. Spack signs what it pushes to a directory or a web server unless the mirror
// says otherwise, which is not done here.
func (j *Job) autopush(named []spack.Mirror) (list []spack.Mirror) {
	for _, m := range j.mirrors {
		switch {
		case !m.Autopush || !m.Binary || mirrorIn(named, m.Name) != nil:
		case !strings.HasPrefix(m.Push.URL, "oci") && (m.Signed == nil || *m.Signed) && (j.Recipe.Buildcache == nil || !j.Recipe.Buildcache.Unsigned):
			j.warn(fmt.Sprintf("mirror %s has autopush and takes signed packages, which are not made here: nothing is pushed there; 'signed: false' of the mirror, or 'buildcache: {unsigned: true}' of the step, pushes them unsigned", m.Name))
		default:
			list = append(list, m)
		}
	}
	return list
}

// imagesOfPackages returns the image that gets the recipe's tag at the mirrors: the
// environment's packages, with the variables that 'spack load' sets for them.
// Those of 'spack env activate' name the view, which no such image has. Pushed are
// the hashes of packages that the mirrors have.
func (j *Job) imagesOfPackages(ctx context.Context, pushed []string) (map[string]buildcache.Image, error) {
	if j.Recipe.Buildcache == nil || j.Recipe.Buildcache.Tag == "" {
		return nil, nil
	}
	var img buildcache.Image
	load := []string{"-e", j.dir, "load", "--sh"}
	for _, r := range j.lock.Roots {
		s := j.lock.Specs[r.Hash]
		if s == nil || s.External != nil {
			continue
		}
		if missing := j.notPushed(r.Hash, pushed); missing != nil {
			j.warn(fmt.Sprintf("buildcache: tag: %s is not in the image of the packages, since %s is not pushed", s, missing))
			continue
		}
		img.Roots, load = append(img.Roots, r.Hash), append(load, "/"+r.Hash)
	}
	if len(img.Roots) == 0 {
		j.warn("buildcache: tag: no spec of the environment is a package that is pushed, so there is no image of them")
		return nil, nil
	}
	changes, err := j.changes(ctx, "spack load", load...)
	if err != nil {
		return nil, err
	}
	env := map[string]string{"PATH": "/bin:/usr/bin"} // as Spack has it
	changes.Apply(env)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		img.Env = append(img.Env, name+"="+env[name])
	}
	return map[string]buildcache.Image{j.Recipe.Buildcache.Tag: img}, nil
}

// notPushed returns a package that a root needs to run and that is not pushed, nil
// if there is none.
func (j *Job) notPushed(root string, pushed []string) *spack.Spec {
	needed, err := j.lock.Specs.Closure([]string{root}, spack.Link, spack.Run)
	if err != nil {
		return nil // not of a lock that was parsed
	}
	for _, s := range needed {
		if s.External == nil && !slices.Contains(pushed, s.Hash) {
			return s
		}
	}
	return nil
}

// ownHashes are those of all packages that are not the distribution's, that their
// hashes identify, and that may be redistributed.
func (j *Job) ownHashes(ctx context.Context) ([]string, error) {
	private, err := j.privateHashes(ctx)
	if err != nil {
		return nil, err
	}
	var hashes, kept []string
	for hash, s := range j.lock.Specs {
		switch {
		case s.External != nil || j.developed[hash]:
		case private[hash]:
			kept = append(kept, s.Name+"@"+s.Version)
		default:
			hashes = append(hashes, hash)
		}
	}
	if len(kept) > 0 {
		slices.Sort(kept)
		j.report("not pushed, since their recipes forbid to redistribute them: %s; 'buildcache: {private: true}' pushes them to a private mirror", strings.Join(kept, ", "))
	}
	return hashes, nil
}

// privateHashes asks Spack for the packages that must not be redistributed.
func (j *Job) privateHashes(ctx context.Context) (map[string]bool, error) {
	if b := j.Recipe.Buildcache; b != nil && b.Private {
		return nil, nil
	}
	script, err := j.writeScript("private.py", privateScript)
	if err != nil {
		return nil, err
	}
	out, err := j.capture(ctx, "-e", j.dir, "python", script)
	if err != nil {
		return nil, err
	}
	private := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if hash, ok := strings.CutPrefix(strings.TrimSpace(line), "private "); ok {
			private[hash] = true
		}
	}
	return private, nil
}

// pushAfterFailure sends the finished packages: others can use them. The step's
// failure is the error, so that one of a mirror is only a warning.
func (j *Job) pushAfterFailure(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if err := j.push(ctx, false); err != nil {
		j.warn(err.Error())
	}
}
