//go:build integration

package library

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// What a process has beside its memory.
type left struct {
	goroutines  goleak.Option
	descriptors []string
	mounts      []string
	children    []string
}

// lookAround notes what the process has now.
func lookAround(t *testing.T) left {
	t.Helper()
	return left{goleak.IgnoreCurrent(), descriptors(t), mounts(t), children(t)}
}

// wantNothingNew fails the test if the process has more than before.
func (before left) wantNothingNew(t *testing.T) {
	t.Helper()
	// Goroutines that are about to end have time to.
	err := goleak.Find(before.goroutines)
	for range 20 {
		if err == nil {
			break
		}
		err = goleak.Find(before.goroutines)
	}
	if err != nil {
		t.Errorf("goroutines stay: %v", err)
	}
	for _, kind := range []struct {
		name string
		was  []string
		is   func(*testing.T) []string
	}{{"file descriptors", before.descriptors, descriptors}, {"mounts", before.mounts, mounts}, {"children", before.children, children}} {
		if more := additional(kind.is(t), kind.was); len(more) > 0 {
			t.Errorf("%d %s stay:\n%s", len(more), kind.name, strings.Join(more, "\n"))
		}
	}
}

// additional is what is in now and not in before, each as often as it is more.
func additional(now, before []string) (more []string) {
	before = slices.Clone(before)
	for _, x := range now {
		if i := slices.Index(before, x); i >= 0 {
			before = slices.Delete(before, i, i+1)
			continue
		}
		more = append(more, x)
	}
	return more
}

// descriptors are the files that the process has open. Sockets and pipes have
// numbers that tell one from the other; they are counted by kind.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil {
			continue // that of the directory itself
		}
		kind, _, _ := strings.Cut(name, ":[")
		open = append(open, kind)
	}
	return open
}

func mounts(t *testing.T) (points []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	return points
}

func children(t *testing.T) (names []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		for _, pid := range strings.Fields(string(data)) {
			comm, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			names = append(names, fmt.Sprintf("%s %s", strings.TrimSpace(string(comm)), pid))
		}
	}
	return names
}
