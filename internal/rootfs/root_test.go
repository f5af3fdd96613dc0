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
			"walking": errOf(r.openByWalking("open", name, unix.O_RDONLY)), "OpenExact": errOf(r.OpenExact(name)),
			"walking exactly": errOf(r.openByWalking("open", name, exact|unix.O_RDONLY)),
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
		walked, err2 := r.openByWalking("open", name, unix.O_RDONLY)
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
			"walking": errOf(r.openByWalking("open", name, exact|unix.O_PATH)),
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

// Opening a pipe does not wait for a writer, and reading one is refused.
func TestPipe(t *testing.T) {
	r := tree(t)
	if err := unix.Mkfifo(filepath.Join(r.HostPath(), "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("pipe"); err == nil {
		t.Error("a pipe was read")
	}
}
