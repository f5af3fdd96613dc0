package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// memoryPerJob is what one compiler process may need at its worst, in bytes:
// large C++ files of template libraries take about that much.
const memoryPerJob = 2 << 30

// install installs the environment. Each package is in the local binary cache
// as soon as it is installed, so that whatever stops the installation, the next
// one goes on behind the last finished package.
func (j *spackJob) install(ctx context.Context) error {
	local := map[string]any{"pdibuild": map[string]any{
		"url": "file://" + spackLentCache, "source": false, "binary": true, "autopush": true, "signed": false,
	}}
	if err := j.writeConfig(local); err != nil {
		return err
	}
	jobs := j.jobs()
	j.packages = newPackageWatch(j, j.thereAlready)
	for {
		j.packages.restart(j.packagesAtOnce(jobs))
		failures, err := j.tryInstall(ctx, jobs)
		if err == nil {
			return j.pushPackages(ctx)
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

func (j *spackJob) tryInstall(ctx context.Context, jobs int) ([]spack.Failure, error) {
	args := []string{"-e", j.dir, "install", "-j" + strconv.Itoa(jobs)}
	if n := j.step.ConcurrentPackages; n > 0 && j.atLeastOne() {
		args = append(args, "-p"+strconv.Itoa(n))
	}
	if !j.step.KeepGoing {
		args = append(args, "--fail-fast")
	}
	out := &spack.Output{Specs: j.lock.Specs, Handle: j.packages.handle}
	cmd := j.command(args...)
	cmd.watch = out
	err := j.exec(ctx, cmd)
	_ = out.Close() // never fails
	return out.Failures(), err
}

// jobs is how many processes compile at once.
func (j *spackJob) jobs() int {
	if n, err := strconv.Atoi(j.step.Jobs); err == nil && n > 0 {
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
func (j *spackJob) packagesAtOnce(jobs int) int {
	n := j.step.ConcurrentPackages
	switch {
	case !j.atLeastOne(), n == 0 && (strings.HasPrefix(j.version, "1.0.") || strings.HasPrefix(j.version, "1.1.")):
		return 1
	case n == 0:
		return jobs
	}
	return min(n, jobs)
}

// availableMemory is what this process may use, in bytes: the machine's, or
// its control group's where that is less; see the kernel's cgroup-v2.rst and
// cgroup-v1/memory.rst. 0 means that it is not known.
func availableMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	memory := int64(info.Totalram) * int64(info.Unit) //nolint:unconvert // not an int64 on every architecture
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return memory
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n") {
		_, group, _ := strings.Cut(line, ":")
		controllers, group, _ := strings.Cut(group, ":")
		switch {
		case controllers == "":
			memory = min(memory, leastLimit("/sys/fs/cgroup", group, "memory.max"))
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			memory = min(memory, leastLimit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return memory
}

// leastLimit is the least of the limits in a file of a control group and those
// above it.
func leastLimit(root, group, file string) int64 {
	least := int64(math.MaxInt64)
	for dir := filepath.Join(root, group); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
		limit, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil {
			least = min(least, n)
		}
	}
	return least
}

// outOfMemory recognises compilers that were killed for memory.
func outOfMemory(err error, failures []spack.Failure) bool {
	var step *StepError
	if !errors.As(err, &step) {
		return false
	}
	lines := slices.Clone(step.Tail)
	for _, f := range failures {
		lines = append(lines, f.Lines...)
	}
	return step.ExitCode == 137 || slices.ContainsFunc(lines, killedForMemory.MatchString)
}

// killedForMemory is what compilers, linkers, make, ninja, shells and Python say
// of processes that got no memory or were killed, which is mostly for memory.
var killedForMemory = regexp.MustCompile(`Killed signal terminated program|fatal error: Killed|virtual memory exhausted|[Cc]annot allocate memory|` +
	`out of memory|std::bad_alloc|MemoryError|(?:^|\]|:|\d)\s*Killed$|\] Error 137$|terminated with signal 9|exited with status (?:-9|137)\b`)

// installError says which packages could not be installed, and why.
func (j *spackJob) installError(err error, failures []spack.Failure) error {
	var step *StepError
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
		j.request.Cwd = dir // where 'pdibuild shell --failed' stands
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
			j.buildDirectory = true
		}
	}
	return &failed
}

// installHint says what to do about a failed package.
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
func (j *spackJob) buildDir(f spack.Failure) string {
	rel, ok := strings.CutPrefix(path.Dir(f.Log), spackLentStage+"/")
	if !ok {
		return ""
	}
	var dirs []string
	_ = j.inLent("stage", func(root *rootfs.Root) (err error) { // without it, the log's directory is named
		dirs, err = root.Glob(path.Join(rootfs.QuoteMeta(rel), "spack-stage-*-"+rootfs.QuoteMeta(f.Hash)))
		return err
	})
	if len(dirs) == 1 && f.Hash != "" {
		return path.Join(path.Dir(f.Log), path.Base(dirs[0]))
	}
	return path.Dir(f.Log)
}

// saveLog keeps the whole log of a package, which Spack has in a directory
// that goes with this step.
func (j *spackJob) saveLog(f spack.Failure) string {
	rel, ok := strings.CutPrefix(f.Log, spackLentStage+"/")
	if !ok {
		return ""
	}
	var src *os.File
	err := j.inLent("stage", func(root *rootfs.Root) (err error) {
		src, err = root.Open(rel)
		return err
	})
	if err != nil {
		return ""
	}
	defer src.Close()
	name := j.logPath(f.Name + "-" + f.Version)
	dst, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return ""
	}
	masked := j.run.mask(dst)
	_, err = io.Copy(masked, src)
	if errors.Join(err, masked.Close(), dst.Close()) != nil {
		return ""
	}
	return name
}
