package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// install installs the environment. Spack pushes each package to the local binary
// cache as soon as it is installed, so that an installation that was stopped goes
// on behind the last finished package.
func (j *Job) install(ctx context.Context) error {
	if err := j.writeConfig(map[string]any{"pdibuild": j.localCache()}); err != nil {
		return err
	}
	if len(j.developed) > 0 {
		defer j.dropDeveloped(context.WithoutCancel(ctx))
	}
	jobs := j.jobs()
	j.packages = newPackageWatch(j, j.installed)
	for {
		j.packages.restart(j.packagesAtOnce(jobs))
		failures, err := j.tryInstall(ctx, jobs)
		if err == nil {
			return j.push(ctx, true)
		}
		if jobs > 1 && ctx.Err() == nil && outOfMemory(err, failures) {
			jobs = max(1, jobs/2)
			j.warn(fmt.Sprintf("the memory did not suffice; what is missing is built again with %d jobs", jobs))
			continue
		}
		j.pushAfterFailure(ctx)
		return j.installError(err, failures)
	}
}

func (j *Job) tryInstall(ctx context.Context, jobs int) ([]spack.Failure, error) {
	args := []string{"-e", j.dir, "install", "-j" + strconv.Itoa(jobs)}
	if n := j.Recipe.ConcurrentPackages; n > 0 && j.atLeastOne(0) {
		args = append(args, "-p"+strconv.Itoa(n))
	}
	if !j.Recipe.KeepGoing {
		args = append(args, "--fail-fast")
	}
	out := &spack.Output{Specs: j.lock.Specs, Handle: j.packages.handle}
	cmd := j.command(args...)
	cmd.Output = out
	err := j.exec(ctx, cmd)
	_ = out.Close() // never fails
	return out.Failures(), err
}

// jobs is how many processes compile at once.
func (j *Job) jobs() int {
	if n, err := strconv.Atoi(j.Recipe.Jobs); err == nil && n > 0 {
		return n
	}
	n := runtime.NumCPU()
	if memory := availableMemory(); memory > 0 {
		n = min(n, int(memory/memoryPerJob))
	}
	return max(1, n)
}

// packagesAtOnce is how many packages are built at once. Since 1.2, Spack
// begins one whenever less than jobs processes are at work; older versions have
// to be told to build more than one.
func (j *Job) packagesAtOnce(jobs int) int {
	n := j.Recipe.ConcurrentPackages
	switch {
	case !j.atLeastOne(0), n == 0 && !j.atLeastOne(2):
		return 1
	case n == 0:
		return jobs
	}
	return min(n, jobs)
}

// installError names the packages that could not be installed, and why.
func (j *Job) installError(err error, failures []spack.Failure) error {
	var step *failure.StepError
	if !errors.As(err, &step) || len(failures) == 0 {
		return err
	}
	first := failures[0]
	var names []string
	for _, f := range failures {
		name := f.String()
		if f.Phase != "" {
			name += " failed in phase " + f.Phase
		}
		if why := f.Reason(); why.Text != "" {
			name += ": " + why.Text
		}
		names = append(names, name)
	}
	if dir := j.buildDir(first); dir != "" {
		j.failedDir = dir
	}
	failed := *step
	failed.Err = errors.New(strings.Join(names, "; "))
	failed.Tail = first.Digest()
	if failed.Tail == nil {
		failed.Tail = step.Tail
	}
	for _, f := range slices.Backward(failures) {
		if log := j.saveLog(f); log != "" {
			failed.LogFile = log
		}
	}
	if failed.Hint == "" {
		failed.Hint = "what is installed is kept: " + installHint(first) + " and run the same command again, which goes on from there"
		switch first.Reason().Kind {
		case spack.ReasonFetch, spack.ReasonChecksum, spack.ReasonSpace: // nothing was begun
		default:
			j.failedBuild = true
		}
	}
	return &failed
}

// installHint is what to do about a failed package.
func installHint(f spack.Failure) string {
	switch f.Reason().Kind {
	case spack.ReasonFetch:
		return "see that the sources of " + f.Name + " can be had (network, proxy, a mirror with 'source: true' in the environment's mirrors:)"
	case spack.ReasonChecksum:
		return "the archive is not the one that the package names: if its author has replaced it, correct the sha256 in a copy of the package in repos:, or take another version,"
	case spack.ReasonPatch:
		return "correct the patch of " + f.Name + ", or limit it to the versions that it fits (patch(…, when=\"@1.0\")),"
	case spack.ReasonRecipe:
		return "correct the package.py of " + f.Name
	case spack.ReasonSpace:
		return "make room on the disk"
	default:
		return "correct " + f.Name + " (a version, a variant, a patched package in repos:)"
	}
}

// buildDir is the directory in which a package was being built: the one with
// its log or, since Spack 1.1, beside its log; "" if it is gone.
func (j *Job) buildDir(f spack.Failure) string {
	rel, ok := strings.CutPrefix(path.Dir(f.Log), mountStage+"/")
	if !ok {
		return ""
	}
	var dirs []string
	_ = j.inHostDir("stage", func(root *rootfs.Root) (err error) { // without it, the log's directory is named
		dirs, err = root.Glob(path.Join(rootfs.QuoteMeta(rel), "spack-stage-*-"+rootfs.QuoteMeta(f.Hash)))
		return err
	})
	if len(dirs) == 1 && f.Hash != "" {
		return path.Join(path.Dir(f.Log), path.Base(dirs[0]))
	}
	return path.Dir(f.Log)
}

// saveLog keeps the whole log of a package. Spack has it in a directory that is
// removed with this step.
func (j *Job) saveLog(f spack.Failure) string {
	rel, ok := strings.CutPrefix(f.Log, mountStage+"/")
	if !ok {
		return ""
	}
	var log *os.File
	err := j.inHostDir("stage", func(root *rootfs.Root) (err error) {
		log, err = root.Open(rel)
		return err
	})
	if err != nil {
		return ""
	}
	defer log.Close()
	return j.step.SaveLog(f.Name+"-"+f.Version, log)
}
