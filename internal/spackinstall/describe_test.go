package spackinstall

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Roots that "spack gc" would remove, and what only they need, are not needed, unless
// an included environment asks for them.
func TestNeeded(t *testing.T) {
	t.Parallel()
	specs := spack.Graph{}
	for _, name := range []string{"app", "tool", "own", "shared", "site"} {
		specs[name] = &spack.Spec{Name: name, Hash: name}
	}
	specs["app"].Dependencies = []spack.Dependency{{Hash: "shared", Types: spack.Link}}
	specs["tool"].Dependencies = []spack.Dependency{{Hash: "shared", Types: spack.Link}, {Hash: "own", Types: spack.Run}}
	j := &Job{lock: &spack.Lock{Specs: specs, Roots: []spack.Root{{Hash: "tool"}, {Hash: "app"}, {Hash: "site", Environment: "/opt/site"}}}}
	needed, err := j.needed(&description{Implicit: []string{"tool", "site"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range needed {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if want := []string{"app", "shared", "site"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// Module files have no time, and nothing else of them is lost.
func TestReadModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for name, mark := range map[string]string{"tcl": "##", "lua": "--"} {
		const form = "#%%Module1.0\n%[1]s Module file created by spack (https://github.com/spack/spack)%[2]s\n%[1]s\nsetenv(\"A\", \"on 2026-01-01\")\n"
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, form, mark, " on 2026-11-27 21:00:00.123456"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadModule(root, name)
		if want := fmt.Sprintf(form, mark, ""); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
