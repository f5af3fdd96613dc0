package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/envlayers"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
)

// How packages are put into layers must not depend on whether they were
// compiled or came from a binary cache, so what Spack notes about that counts
// for nothing.
func TestPackageSizeIsThatOfTheLayer(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"opt/app/bin/app": 1000, "opt/app/.spack/spec.json": 30, "opt/app/.spack/spack-build-out.txt": 5000,
		"opt/app/.spack/repos/builtin/packages/app/package.py": 400, "opt/app/share/.spack/data": 7,
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(strings.Repeat("x", size)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	size, err := envlayers.PackageSize(&environmentStep{source: root}, spackinstall.Package{Name: "app", Prefix: "/opt/app"})
	if err != nil || size != 1037 {
		t.Errorf("the package has %d bytes, %v, not 1037", size, err)
	}
}
