// Package busybox finds a program that is all that a test's image needs.
package busybox

import (
	"debug/elf"
	"os/exec"
	"slices"
	"testing"
)

// Find returns a busybox that needs no other files. Without one the test is
// skipped.
func Find(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("SKIPPED: busybox is not installed; apt-get install busybox-static")
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Skip("SKIPPED: this busybox needs shared libraries; apt-get install busybox-static")
	}
	return path
}
