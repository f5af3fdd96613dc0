package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Make makes what is missing inside of the root, and what it has made goes
// again.
func TestMake(t *testing.T) {
	for _, test := range []struct {
		name string
		dir  bool
		made []string // real paths, in order
		fail error
	}{
		{name: "/data", dir: true},
		{name: "/data/own"},
		{name: "/", dir: true},
		{name: "/data/new", dir: true, made: []string{"/data/new"}},
		{name: "data/new/file", made: []string{"/data/new", "/data/new/file"}},
		{name: "/abs/new", made: []string{"/data/new"}},
		{name: "/up/../new", made: []string{"/new"}},
		{name: "/dangling", made: []string{"/nowhere", "/nowhere/else"}},
		{name: "/dangling/deeper", dir: true, made: []string{"/nowhere", "/nowhere/else", "/nowhere/else/deeper"}},
		{name: "/hostdir/new", made: []string{"HOST", "HOST/new"}},
		{name: "/dots/new", made: []string{"/host", "/host/new"}},
		{name: "/loop", fail: unix.ELOOP},
		{name: "/data/own/below", fail: unix.ENOTDIR},
		{name: "/removed/x", dir: true, made: []string{"/removed", "/removed/x"}},
	} {
		r := tree(t, files...)
		before := listing(t, filepath.Dir(r.HostPath()))
		f, made, err := r.Make(test.name, test.dir)
		if !errors.Is(err, test.fail) {
			t.Fatalf("Make(%s): %v, want %v", test.name, err, test.fail)
		}
		if err == nil {
			checkMade(t, r, f, test.name, test.dir)
		}
		top := filepath.Dir(r.HostPath())
		for _, name := range test.made {
			if name, ok := cutHost(name); ok { // the host's path, made below the root
				name = filepath.Join(top, "host", name)
				if _, err := r.LstatExact(name); err != nil {
					t.Errorf("Make(%s): %v", test.name, err)
				}
				continue
			}
			if _, err := r.LstatExact(name); err != nil {
				t.Errorf("Make(%s): %v", test.name, err)
			}
		}
		for i := len(made) - 1; i >= 0; i-- {
			if err := errors.Join(made[i].Undo(), made[i].Close()); err != nil {
				t.Error(err)
			}
		}
		if after := listing(t, top); after != before {
			t.Errorf("Make(%s) and Undo: before\n%safter\n%s", test.name, before, after)
		}
	}
}

func cutHost(name string) (string, bool) {
	if len(name) < 4 || name[:4] != "HOST" {
		return "", false
	}
	return name[4:], true
}

func checkMade(t *testing.T, r *Root, f *os.File, name string, dir bool) {
	t.Helper()
	defer f.Close()
	got, err1 := f.Stat()
	want, err2 := r.Stat(name)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(got, want) || got.IsDir() != want.IsDir() || dir && !got.IsDir() {
		t.Errorf("Make(%s) has opened another file: %v", name, got.Mode())
	}
}

// listing tells of every file and its time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	text := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			text += path + " " + info.Mode().String() + " " + info.ModTime().String() + "\n"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What a command has put in place of an empty file, or into a directory, stays.
func TestUndoKeepsFiles(t *testing.T) {
	r := tree(t)
	var all []Made
	for name, dir := range map[string]bool{"a/file": false, "b/dir": true, "c/link": false} {
		f, made, err := r.Make(name, dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		all = append(all, made...)
	}
	in := func(name string) string { return filepath.Join(r.HostPath(), name) }
	err := errors.Join(os.WriteFile(in("a/file"), []byte("text"), 0o644), os.Mkdir(in("b/dir/x"), 0o755), os.Remove(in("c/link")), os.Symlink("x", in("c/link")))
	if err != nil {
		t.Fatal(err)
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := all[i].Undo(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"a/file", "b/dir/x", "c/link"} {
		if _, err := os.Lstat(in(name)); err != nil {
			t.Error(err)
		}
	}
}

// A directory that is exchanged for a link to the host, again and again, leads
// nowhere but into the root.
func TestMakeRace(t *testing.T) {
	r := tree(t, "sub/", "lnk -> HOST/sub", "far -> HOST")
	inside, err := os.OpenRoot(r.HostPath()) // it follows no link to the host
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for dir := r.HostPath(); ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, dir+"/sub", unix.AT_FDCWD, dir+"/lnk", unix.RENAME_EXCHANGE)
			if n%3 == 0 {
				_, _ = inside.RemoveAll("sub/new"), inside.RemoveAll("sub/secret")
			}
		}
	}()
	host := filepath.Join(filepath.Dir(r.HostPath()), "host")
	before := listing(t, host)
	tries := 0
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); tries++ {
		for _, name := range []string{"sub/new/dir", "sub/secret", "sub/new/../file", "sub/x/y"} {
			f, made, err := r.Make(name, false)
			if err == nil {
				_ = f.Close()
			}
			for i := len(made) - 1; i >= 0; i-- {
				_ = errors.Join(made[i].Undo(), made[i].Close()) // may be gone
			}
		}
	}
	close(stop)
	t.Logf("%d tries, %d exchanges", tries, <-stopped)
	if after := listing(t, host); after != before {
		t.Errorf("the host has changed: before\n%safter\n%s", before, after)
	}
}
