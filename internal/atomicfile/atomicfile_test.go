package atomicfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/lockfile"
)

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Errorf("%s has %q (%v), want %q", path, data, err, want)
	}
}

// Until it is committed, a file changes nothing for a reader, and afterwards
// nothing but the file is there: with a name from the start, and without one.
func TestCommit(t *testing.T) {
	for kind, create := range map[string]func(dir, path string, perm os.FileMode) (*atomicfile.File, error){"unnamed": atomicfile.Create, "named": atomicfile.CreateNamed} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			for _, content := range []string{"one", "two"} {
				f, err := create(dir, path, 0o640)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(content); err != nil {
					t.Fatal(err)
				}
				if content == "two" {
					wantContent(t, path, "one")
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Errorf("Close after Commit: %v", err)
				}
				wantContent(t, path, content)
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("the directory has %q", got)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("permissions are %v (%v)", info.Mode(), err)
			}
		})
	}
}

// What is not committed leaves no trace and the old content.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := atomicfile.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, create := range []func(dir, path string, perm os.FileMode) (*atomicfile.File, error){atomicfile.Create, atomicfile.CreateNamed} {
		f, err := create(dir, path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
	}
	wantContent(t, path, "old")
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the directory has %q", got)
	}
	if err := atomicfile.Write(filepath.Join(dir, "none", "file"), nil, 0o600); err == nil {
		t.Error("Write in a directory that is missing has no error")
	}
}

// Clear removes the files of processes that were killed, no others.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, atomicfile.Prefix+"killed"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := lockfile.New(filepath.Join(dir, atomicfile.Prefix+"alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	atomicfile.Clear(dir, filepath.Join(dir, "none"))
	if got := names(t, dir); len(got) != 2 || got[0] != ".other" || got[1] != atomicfile.Prefix+"alive" {
		t.Errorf("there are %q", got)
	}
}
