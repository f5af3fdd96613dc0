package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// No command of a benchmark takes longer on a machine that works.
const commandLimit = 10 * time.Minute

// A usage is what one command took, in bytes and of the whole tool: of a
// daemon, too.
type usage struct {
	took time.Duration
	// rss is the most memory of any of its processes.
	rss int64
	// written is what its processes wrote into files of a disk, cached or not.
	written int64
	// pushed is what the registry stores now and did not before.
	pushed int64
	err    error
}

// command runs one and waits for it alone, not for what it leaves behind.
func (t tool) command(ctx context.Context, dir string, args []string) (u usage) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	out, err := os.CreateTemp("", "benchmark")
	if err != nil {
		return usage{err: err}
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	before := t.daemonUsage(true)
	start := time.Now()
	err = cmd.Run()
	u.took = time.Since(start)
	if err != nil {
		text, _ := os.ReadFile(out.Name())
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		u.err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-3):], "; "))
		return u
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss, u.written = ru.Maxrss<<10, ru.Oublock*512
	}
	after := t.daemonUsage(false)
	u.rss = max(u.rss, after.rss)
	u.written += after.written - before.written
	return u
}

// daemonUsage is what the tool's daemon has used up to now, its memory since
// it was last reset.
func (t tool) daemonUsage(reset bool) (u usage) {
	if t.daemon == nil {
		return u
	}
	proc := fmt.Sprintf("/proc/%d/", t.daemon.Process.Pid)
	if reset {
		_ = os.WriteFile(proc+"clear_refs", []byte("5"), 0) // proc(5): resets VmHWM
	}
	u.rss = numberAfter(proc+"status", "VmHWM:") << 10
	u.written = numberAfter(proc+"io", "\nwrite_bytes:")
	return u
}

func numberAfter(file, label string) int64 {
	data, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(data), label)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n
}

// blobBytes is the size of what a registry stores.
func blobBytes(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // an upload that is gone meanwhile is not stored
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// flush writes what the file system of dir still has to write, so that no tool
// pays for the one before.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
