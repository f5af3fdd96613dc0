package spackinstall

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// memoryPerJob is what one compiler process may need at its worst, in bytes:
// large C++ files of template libraries take about that much.
const memoryPerJob = 2 << 30

// outOfMemory recognises compilers that were killed for memory.
func outOfMemory(err error, failures []spack.Failure) bool {
	var step *failure.StepError
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
