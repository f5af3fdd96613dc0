package layer_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// Files are the same inodes, and directories have the same attributes. No file
// is opened: a file that nobody may read is linked, too.
func TestRelink(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(from+"/sub/deep", 0o755))
	must(os.Mkdir(to, 0o755))
	must(os.WriteFile(from+"/sub/file", []byte("x"), 0o000))
	must(os.Link(from+"/sub/file", from+"/sub/deep/link"))
	must(os.Symlink("/nowhere", from+"/sub/sym"))
	must(unix.Mkfifo(from+"/sub/fifo", 0o640))
	attributes := unix.Setxattr(from+"/sub/deep", "user.note", []byte("kept"), 0) == nil
	must(os.Chmod(from+"/sub/deep", 0o1751&0o777|fs.ModeSticky))
	old := time.Unix(981173106, 0)
	must(os.Chtimes(from+"/sub/deep", old, old))
	must(os.Chtimes(from+"/sub", old, old))

	root, err := rootfs.Open(from)
	must(err)
	defer root.Close()
	must(layer.Relink(root, to))
	seen := 0
	must(filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == from {
			return err
		}
		seen++
		want, err1 := os.Lstat(name)
		got, err2 := os.Lstat(to + strings.TrimPrefix(name, from))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got.Mode() != want.Mode() || !got.ModTime().Equal(want.ModTime()) {
			t.Errorf("%s is %v of %v, want %v of %v", name, got.Mode(), got.ModTime(), want.Mode(), want.ModTime())
		}
		if same := got.Sys().(*syscall.Stat_t).Ino == want.Sys().(*syscall.Stat_t).Ino; same == d.IsDir() {
			t.Errorf("%s is the same inode: %v", name, same)
		}
		return nil
	}))
	if seen != 6 {
		t.Errorf("%d files were compared, want 6", seen)
	}
	if attributes {
		value := make([]byte, 10)
		if n, err := unix.Getxattr(to+"/sub/deep", "user.note", value); err != nil || string(value[:n]) != "kept" {
			t.Errorf("user.note is %q, %v", value[:max(n, 0)], err)
		}
	}
}
