package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where no overlay can be made, what a command may write to is a copy: with the
// modes, times and links of the source, without pipes, and without itself.
func TestCopyAll(t *testing.T) {
	from := t.TempDir()
	spare := filepath.Join(from, "store", "spare")
	old := time.Unix(1_000_000_000, 0)
	err := errors.Join(os.MkdirAll(filepath.Join(from, "d", "e"), 0o755), os.MkdirAll(spare, 0o755),
		os.WriteFile(filepath.Join(from, "d", "f"), []byte("text"), 0o640), os.Chmod(filepath.Join(from, "d", "e"), 0o700|fs.ModeSticky),
		os.Symlink("/etc", filepath.Join(from, "d", "l")), unix.Mkfifo(filepath.Join(from, "pipe"), 0o600),
		os.Chtimes(filepath.Join(from, "d", "f"), old, old), os.Chtimes(filepath.Join(from, "d"), old, old))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]string{
		from:                          {".": "drwxr-xr-x", "d": "drwxr-xr-x old", "d/e": "dtrwx------", "d/f": "-rw-r----- old text", "d/l": "Lrwxrwxrwx /etc", "store": "drwxr-xr-x"},
		filepath.Join(from, "d", "f"): {".": "-rw-r----- old text"},
	} {
		source, err := os.OpenFile(name, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		whole := filepath.Join(spare, "copy")
		if err := errors.Join(os.RemoveAll(whole), copyAll(source, spare, whole), source.Close()); err != nil {
			t.Fatal(err)
		}
		got := describeTree(t, whole, old)
		for file, text := range want {
			if got[file] != text {
				t.Errorf("copy of %s: %s is %q, want %q", name, file, got[file], text)
			}
		}
		if len(got) != len(want) {
			t.Errorf("copy of %s: %v, want %v", name, got, want)
		}
	}
}

func describeTree(t *testing.T, dir string, old time.Time) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if info.ModTime().Equal(old) {
			text += " old"
		}
		if target, err := os.Readlink(path); err == nil {
			text += " " + target
		} else if data, err := os.ReadFile(path); err == nil {
			text += " " + string(data)
		}
		rel, err := filepath.Rel(dir, path)
		all[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
