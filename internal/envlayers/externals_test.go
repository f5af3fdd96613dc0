package envlayers

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
)

func rootWith(t *testing.T, names ...string) *rootfs.Root {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestMissingExternals(t *testing.T) {
	t.Parallel()
	in := &spackinstall.Installation{Externals: []spackinstall.Package{
		{Name: "cmake", Version: "3.25", Prefix: "/usr"},
		{Name: "openmpi", Version: "4.1", Prefix: "/usr"},
		{Name: "vendor", Version: "1.0", Prefix: "/opt/vendor"},
		{Name: "perl", Version: "5.36", Prefix: "/usr"},
		{Name: "nowhere", Version: "1.0", Prefix: "/opt/nowhere"},
		{Name: "module", Version: "1.0"},
	}}
	builder := rootWith(t, "usr/bin/cmake", "usr/bin/perl", "opt/vendor/bin/vendor")
	final := rootWith(t, "usr/bin/perl")
	want := []string{"cmake@3.25 (/usr/bin/cmake)", "vendor@1.0 (/opt/vendor)"}
	if got := MissingExternals(in, builder, final); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
