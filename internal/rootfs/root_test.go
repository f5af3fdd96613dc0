package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a root beside a host's directory with the same names. Lines are
// "DIR/", "FILE" (which contains its own name) or "LINK -> TARGET".
func tree(t *testing.T, lines ...string) *Root {
	t.Helper()
	top := t.TempDir()
	root := filepath.Join(top, "root")
	for _, line := range append([]string{"../host/secret", "../host/sub/secret", "./"}, lines...) {
		name, target, isLink := strings.Cut(line, " -> ")
		full := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case isLink:
			err = errors.Join(err, os.Symlink(strings.ReplaceAll(target, "HOST", top+"/host"), full))
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(full, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(full, []byte(name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

var files = []string{
	"data/own", "data/deep/own", "abs -> /data", "rel -> data/deep", "up -> ../../../../../../data", "chain -> abs/deep",
	"hostdir -> HOST", "dots -> ../host", "loop -> loop", "dangling -> /nowhere/else", "data/back -> ../abs/own", "odd\xff/x",
}

func TestResolve(t *testing.T) {
	r := tree(t, files...)
	for name, want := range map[string]string{
		"/": "/", "": "/", "data/own": "/data/own", "/abs/own": "/data/own", "/rel/own": "/data/deep/own", "/up/own": "/data/own",
		"/chain": "/data/deep", "/chain/../own": "/data/own", "/../../data": "/data", "/data/back": "/data/own",
		"/new/../file": "/file", "/abs/new/file": "/data/new/file", "/dangling": "/nowhere/else", "/dots": "/host", "/odd\xff/x": "/odd\xff/x",
	} {
		if got, err := r.Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v, not %q", name, got, err, want)
		}
	}
	if got, err := r.Resolve("/hostdir/secret"); err != nil || !strings.HasPrefix(got, "/") || strings.Contains(got, "..") {
		t.Errorf("a link to the host's directory resolves to %q, %v", got, err)
	}
	if _, err := r.Resolve("/loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}

// Every way to open files gives those of the root or none, by the kernel and
// by walking alike.
func TestNothingOfTheHost(t *testing.T) {
	r := tree(t, files...)
	for _, name := range []string{"hostdir/secret", "dots/secret", "/../host/secret", "dots/sub/secret", "data/../../host/secret"} {
		for how, err := range map[string]error{
			"Stat": errOf(r.Stat(name)), "Open": errOf(r.Open(name)), "ReadFile": errOf(r.ReadFile(name)), "Lstat": errOf(r.Lstat(name)),
			"walking": errOf(r.handleByWalking("open", name, 0)), "OpenExact": errOf(r.OpenExact(name)),
			"walking exactly": errOf(r.handleByWalking("open", name, exact)),
		} {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				t.Errorf("%s(%q): %v", how, name, err)
			}
		}
	}
	for _, pattern := range []string{"/hostd*/secre*", "/d*s/secret", "/hostdir/*", "/dots/s*b/*"} {
		if found, err := r.Glob(pattern); err != nil || len(found) != 0 {
			t.Errorf("Glob(%q) = %q, %v", pattern, found, err)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestLinksInTheRootAreFollowed(t *testing.T) {
	r := tree(t, files...)
	for name, want := range map[string]string{"abs/own": "data/own", "up/own": "data/own", "chain/own": "data/deep/own", "data/back": "data/own"} {
		data, err := r.ReadFile(name)
		walked, err2 := r.handleByWalking("open", name, 0)
		if err != nil || err2 != nil || string(data) != want {
			t.Errorf("ReadFile(%q) = %q, %v, %v", name, data, err, err2)
			continue
		}
		_ = walked.Close()
	}
}

func TestExactFollowsNoLink(t *testing.T) {
	r := tree(t, files...)
	for _, name := range []string{"abs/own", "chain/own", "up/deep/own", "hostdir/secret"} {
		for how, err := range map[string]error{
			"LstatExact": errOf(r.LstatExact(name)), "OpenExact": errOf(r.OpenExact(name)), "ReadDirExact": errOf(r.ReadDirExact(filepath.Dir(name))),
			"walking": errOf(r.handleByWalking("open", name, exact)),
		} {
			if !errors.Is(err, unix.ENOTDIR) {
				t.Errorf("%s(%q): %v", how, name, err)
			}
		}
	}
	if info, err := r.LstatExact("abs"); err != nil || info.Mode()&fs.ModeSymlink == 0 || info.Name() != "abs" {
		t.Errorf("LstatExact of a link: %v, %v", info, err)
	}
	if _, err := r.OpenExact("data/back"); err == nil {
		t.Error("OpenExact follows a link at the end")
	}
	if target, err := r.ReadlinkExact("data/back"); err != nil || target != "../abs/own" {
		t.Errorf("ReadlinkExact: %q, %v", target, err)
	}
}

// A cursor finds what FileExact finds, whichever came before.
func TestCursor(t *testing.T) {
	r, other := tree(t, files...), tree(t, "data/other")
	var c Cursor
	defer c.Close()
	for _, name := range []string{"/data/own", "/data/deep/own", "/data/none", "/data/back", "/abs/own", "/hostdir/secret", "/data/own", "/rel", "/", "./"} {
		want, wantErr := r.FileExact(name)
		got, err := c.FileExact(r, name)
		switch {
		case wantErr != nil:
			if err == nil || err.Error() != wantErr.Error() {
				t.Errorf("%s: %v, not %v", name, err, wantErr)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := os.Lstat(got.HostPath())
		if err != nil || !os.SameFile(got.Info, want.Info) || !os.SameFile(again, want.Info) || got.Name != want.Name {
			t.Errorf("%s is another file: %v", name, err)
		}
		_ = want.Close()
	}
	if f, err := c.FileExact(other, "/data/other"); err != nil || f.Info.Size() != int64(len("data/other")) {
		t.Errorf("in another root: %v", err)
	}
}

func TestGlob(t *testing.T) {
	r := tree(t, "opt/app-1/tool", "opt/app-1/.hidden", "opt/current -> app-1", "opt/file", "opt/[x]/y", "opt/lnk -> /opt/app-1/tool", "a/x", "a-b/x")
	for pattern, want := range map[string][]string{
		"/opt/*/tool": {"/opt/app-1/tool"}, "/opt/cur*": {"/opt/current"}, "/opt/current/t*": {"/opt/app-1/tool"}, "opt/*l*": {"/opt/file", "/opt/lnk"},
		"/*/*/y": {"/opt/[x]/y"}, `/opt/\[x\]/?`: {"/opt/[x]/y"}, "/": {"/"}, "/opt/none*": nil, "/opt/file/*": nil,
		"/a*/x": {"/a/x", "/a-b/x"},
	} {
		if got, err := r.Glob(pattern); err != nil || !slices.Equal(got, want) {
			t.Errorf("Glob(%q) = %q, %v, not %q", pattern, got, err, want)
		}
	}
	if _, err := r.Glob("/[a"); err == nil {
		t.Error("a bad pattern is accepted")
	}
}

func TestWalk(t *testing.T) {
	r := tree(t, "a/b/c", "a/b.d/e", "a/skip/x", "a/link -> b", "odd\xff/f")
	for top, want := range map[string]string{
		"/a":     "/a /a/b /a/b/c /a/b.d /a/b.d/e /a/link /a/skip",
		"/a/b/c": "/a/b/c", "/a/link": "/a/link", "/a/link/c": "/a/b/c", "/": "/ /a /a/b /a/b/c /a/b.d /a/b.d/e /a/link /a/skip /odd\xff /odd\xff/f",
	} {
		var got []string
		err := r.Walk(top, func(f *File) error {
			got = append(got, f.Name)
			if info, err := os.Lstat(f.HostPath()); err != nil || !os.SameFile(info, f.Info) {
				return fmt.Errorf("HostPath of %s is another file: %w", f.Name, err)
			}
			if f.Info.Name() == "skip" {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("Walk(%q): %q, %v", top, got, err)
		}
	}
}

// What a directory's entries say is about files of the root.
func TestReadDirEntries(t *testing.T) {
	r := tree(t, "etc/passwd")
	entries, err := r.ReadDir("/etc")
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Size() != int64(len("etc/passwd")) {
		t.Errorf("etc/passwd of the root: %v, %v", info, err)
	}
}

// What is neither a file nor a directory is not opened, which would wait for
// the other end of a pipe, or touch a device.
func TestOnlyFilesAreOpened(t *testing.T) {
	r := tree(t, "link -> pipe")
	if err := unix.Mkfifo(filepath.Join(r.HostPath(), "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for how, err := range map[string]error{
		"Open": errOf(r.Open("link")), "ReadFile": errOf(r.ReadFile("link")), "OpenAppend": errOf(r.OpenAppend("link")),
	} {
		if !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// What is written comes into the root, behind its links, and nowhere else.
func TestWrite(t *testing.T) {
	r := tree(t, append(files, "file -> HOST/secret", "new -> HOST/new")...)
	for name, where := range map[string]string{
		"abs/created": "data/created", "data/back": "data/own", "some/where/new": "some/where/new", "up/deep/x": "data/deep/x", "../../top": "top",
	} {
		err := r.WriteFile(name, []byte("written"))
		data, err2 := os.ReadFile(filepath.Join(r.HostPath(), where))
		if err != nil || err2 != nil || string(data) != "written" {
			t.Errorf("WriteFile(%q): %v; %s has %q, %v", name, err, where, data, err2)
		}
	}
	for _, name := range []string{"hostdir/secret", "dots/secret", "file", "new", "hostdir/sub/x/y"} {
		_ = r.WriteFile(name, []byte("written")) // into the root, or not at all
	}
	_ = errors.Join(r.MkdirAll("hostdir/made"), r.Symlink("x", "hostdir/made-link"), errOf(r.OpenAppend("hostdir/secret")))
	host := filepath.Join(filepath.Dir(r.HostPath()), "host")
	entries, err := os.ReadDir(host)
	data, err2 := os.ReadFile(host + "/secret")
	if err != nil || err2 != nil || len(entries) != 2 || string(data) != "../host/secret" {
		t.Errorf("the host has %v, its file %q: %v, %v", entries, data, err, err2)
	}
	f, err := r.Create("data/program", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("a program is %v, %v", info.Mode(), err)
	}
}
