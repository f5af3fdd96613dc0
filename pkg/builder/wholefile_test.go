package builder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

func TestNewFilesOfKilledBuildsGo(t *testing.T) {
	dir := t.TempDir()
	if err := writeWhole(filepath.Join(dir, "kept"), []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, newFile+"killed"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := lockfile.New(filepath.Join(dir, newFile+"alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	clearNew(dir, filepath.Join(dir, "none"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != newFile+"alive" || entries[1].Name() != "kept" {
		t.Errorf("there is %v (%v), want what is being written and what was", entries, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "kept")); string(data) != "whole" {
		t.Errorf("the file has %q (%v)", data, err)
	}
	if err := writeWhole(filepath.Join(dir, "none", "file"), nil); err == nil {
		t.Error("a file is written into a directory that is not there")
	}
}
