package worker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// killTree kills pid and all its descendants. Where the worker has a process
// namespace of its own, the first kill is enough; where it has none,
// descendants are found in /proc. A killed worker is the reaper of its
// descendants, so those that have lost their parent are found, too.
func killTree(pid int) error {
	if pid <= 1 { // the whole host, or a group
		return os.ErrProcessDone
	}
	for range 8 { // descendants may fork while we look
		children := descendants(pid)
		for _, p := range children {
			_ = syscall.Kill(p, syscall.SIGSTOP)
		}
		if len(descendants(pid)) == len(children) {
			break
		}
	}
	for _, p := range descendants(pid) {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func descendants(root int) []int {
	children := map[int][]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat") //nolint:forbidigo // all of the pattern is written here
	if err != nil {
		return nil
	}
	for _, path := range stats {
		if pid, parent, ok := readParent(path); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	queue := children[root]
	for len(queue) > 0 {
		pid := queue[0]
		queue = append(queue[1:], children[pid]...)
		all = append(all, pid)
	}
	return all
}

// readParent reads pid and ppid; see proc_pid_stat(5). The command name in
// parentheses may hold anything, so fields count from the last ')'.
func readParent(path string) (pid, parent int, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
	parent, err2 := strconv.Atoi(fields[1])
	return pid, parent, err1 == nil && err2 == nil
}
