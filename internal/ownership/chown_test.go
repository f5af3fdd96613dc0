package ownership

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

func TestChownFailsWithoutSupervision(t *testing.T) {
	requireNamespace(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 0, 42); err == nil {
		t.Fatal("this namespace has group 42: the tests of this package prove nothing here")
	}
}

// Every script prints what a process sees; want is that, and files the owners
// that an image gets.
func TestOwners(t *testing.T) {
	tests := []struct {
		name, script, want string
		files              map[string]string
	}{
		{"file", `touch f; chown 1:42 f; stat -c %u:%g f`, "1:42", map[string]string{"f": "1:42"}},
		{"directory", `mkdir d; chown 0:8 d; stat -c %u:%g d`, "0:8", map[string]string{"d": "0:8"}},
		{"symbolic link", `ln -s nowhere l; chown -h 5:6 l; stat -c %u:%g l`, "5:6", map[string]string{"l": "5:6"}},
		{
			"through a link", `touch f; ln -s f l; chown 5:6 l; stat -c %u:%g l f; stat -Lc %u:%g l`, "0:0\n5:6\n5:6",
			map[string]string{"f": "5:6", "l": ""},
		},
		{"fifo", `mkfifo p; chown 5:6 p; stat -c %u:%g p`, "5:6", map[string]string{"p": "5:6"}},
		{"group only keeps the user", `touch f; chown 7 f; chgrp 42 f; stat -c %u:%g f`, "7:42", map[string]string{"f": "7:42"}},
		{
			"back to root", `touch f; ln -s f l; chown -h 7:7 f l; chown -h 0:0 f l; stat -c %u:%g f l`, "0:0\n0:0",
			map[string]string{"f": "", "l": ""},
		},
		{
			"tree", `mkdir -p a/b/c; touch a/b/f; ln -s ../f a/b/c/l; chown -R 11:12 a; find a -printf '%U:%G '`,
			"11:12 11:12 11:12 11:12 11:12",
			map[string]string{"a/b/f": "11:12", "a/b/c/l": "11:12"},
		},
		{"unwritable file", `touch f; chmod 0000 f; chown 3:4 f; stat -c %u:%g:%a f`, "3:4:0", map[string]string{"f": "3:4"}},
		{
			"largest id", `touch f; chown 4294967294:4294967294 f; stat -c %u:%g f`, "4294967294:4294967294",
			map[string]string{"f": "4294967294:4294967294"},
		},
		{
			"dot dot", `mkdir -p a/b c; touch c/f; cd a/b; chown 3:4 ../../c/f; stat -c %u:%g ../../c/../c/f`, "3:4",
			map[string]string{"c/f": "3:4"},
		},
		{
			"absolute", `touch f; ln -s "$PWD" /$PWD/here; chown 3:4 "$PWD/here/here/f"; stat -c %u:%g "$PWD/f"`, "3:4",
			map[string]string{"f": "3:4"},
		},
		{
			"absolute link in a relative path", `mkdir d; touch d/f; ln -s "$PWD/d" l; chown 3:4 l/f; stat -c %u:%g l/f`, "3:4",
			map[string]string{"d/f": "3:4"},
		},
		{
			"descriptor in proc", `touch f; exec 5<f; chown 3:4 /proc/self/fd/5; chown 3:5 /dev/fd/5; stat -Lc %u:%g /dev/fd/5`, "3:5",
			map[string]string{"f": "3:5"},
		},
		{
			"rename keeps", `touch f; ln -s f l; chown -h 3:4 f l; mv f g; mv l m; stat -c %u:%g g m`, "3:4\n3:4",
			map[string]string{"g": "3:4", "m": "3:4"},
		},
		{"install", `echo x >f; install -m 0640 -o 42 -g 43 f g; stat -c %u:%g:%a g`, "42:43:640", map[string]string{"g": "42:43"}},
		{
			"cp -a", `mkdir d; touch d/f; ln -s f d/l; chown -Rh 3:4 d; cp -a d e; stat -c %u:%g e e/f e/l`, "3:4\n3:4\n3:4",
			map[string]string{"e": "3:4", "e/f": "3:4", "e/l": "3:4"},
		},
		{
			"setuid bits go", `touch f; chmod 6755 f; chown 0:42 f; stat -c %a f; chmod 2755 f; stat -c %a:%g f`, "755\n2755:42",
			map[string]string{"f": "0:42"},
		},
		{"setgid of a directory stays", `mkdir d; chmod 2775 d; chown 0:8 d; stat -c %a:%g d`, "2775:8", map[string]string{"d": "0:8"}},
		{"hard link", `touch f; chown 3:4 f; ln f g; rm f; stat -c %u:%g g`, "3:4", map[string]string{"g": "3:4"}},
		{"trailing slash", `mkdir d; ln -s d l; chown -h 3:4 l/; stat -c %u:%g d l`, "3:4\n0:0", map[string]string{"d": "3:4", "l": ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, dir := start(t, Options{}), t.TempDir()
			if got := strings.TrimSpace(shell(t, s, dir, test.script)); got != test.want {
				t.Errorf("%s\nprinted %q, want %q", test.script, got, test.want)
			}
			for name, want := range test.files {
				if got := recorded(t, s, dir, name); got != want {
					t.Errorf("recorded owner of %s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestTarKeepsOwners(t *testing.T) {
	need(t, "tar")
	s, dir := start(t, Options{}), t.TempDir()
	got := shell(t, s, dir, `
		mkdir in out; touch in/f; ln -s f in/l; mkfifo in/p
		tar -C in --owner=:101 --group=:102 -cf a.tar .
		tar -C out --same-owner -xf a.tar
		stat -c %n:%u:%g out out/*`)
	if want := "out:101:102\nout/f:101:102\nout/l:101:102\nout/p:101:102\n"; got != want {
		t.Errorf("extracted:\n%swant:\n%s", got, want)
	}
	// What is packed again has the owners too.
	if got := shell(t, s, dir, `tar -C out --numeric-owner -cf - . | tar --numeric-owner -tvf - | awk '{print $2}' | sort -u`); got != "101/102\n" {
		t.Errorf("packed again: %q", got)
	}
}

// An editor of /etc/shadow makes a new file, gives it the old one's owner and
// renames it. With NoStat the owner is lost, so this also shows that stat
// matters.
func TestReplacingAFileKeepsItsOwner(t *testing.T) {
	const script = `
		[ -e shadow ] || { echo root:x >shadow; chown 0:42 shadow; chmod 640 shadow; }
		echo daemon:x >>shadow; cat shadow >new; chown --reference=shadow new; chmod --reference=shadow new; mv new shadow`
	for _, test := range []struct {
		options Options
		want    string
	}{{Options{}, "0:42"}, {Options{NoStat: true}, ""}} {
		s, dir := start(t, test.options), t.TempDir()
		shell(t, s, dir, script)
		if got := recorded(t, s, dir, "shadow"); got != test.want {
			t.Errorf("with %+v: owner %q, want %q", test.options, got, test.want)
		}
	}
}

func TestUseradd(t *testing.T) {
	need(t, "useradd", "passwd")
	s, dir := start(t, Options{}), t.TempDir()
	shell(t, s, dir, `
		mkdir -p root/etc root/home; cd root/etc
		echo root:x:0:0:root:/root:/bin/sh >passwd; echo root:x:0: >group
		echo root:*:19000:0:99999:7::: >shadow; echo root:*:: >gshadow
		cp /etc/login.defs . 2>/dev/null || :
		chown 0:42 shadow gshadow; chmod 640 shadow gshadow
		useradd -P "$PWD/.." -u 1001 -m -k /nonexistent somebody`)
	for name, want := range map[string]string{"etc/shadow": "0:42", "etc/gshadow": "0:42", "etc/passwd": "", "home/somebody": "1001:1001"} {
		if got := recorded(t, s, filepath.Join(dir, "root"), name); got != want {
			t.Errorf("owner of %s is %q, want %q", name, got, want)
		}
	}
}

func TestErrorsAreTheKernels(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"missing", `chown 3:4 missing`, "No such file or directory"},
		{"missing directory", `chown 3:4 a/b`, "No such file or directory"},
		{"not a directory", `touch f; chown 3:4 f/g`, "Not a directory"},
		{"loop", `ln -s l l; chown 3:4 l`, "Too many levels of symbolic links"},
		{"dangling", `ln -s nowhere l; chown 3:4 l`, "cannot dereference"},
		{"someone else's", `chown 3:4 /usr/bin`, "Operation not permitted"},
		{"read only", `mkdir m; mount -t tmpfs none m; touch m/f; mount -o remount,ro,bind m; trap "umount m" EXIT; chown 3:4 m/f`, "Read-only file system"},
		{"name too long", `chown 3:4 "$(printf %0300d 0)"`, "File name too long"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := tryShell(start(t, Options{}), t.TempDir(), test.script)
			if err == nil || !strings.Contains(out, test.want) {
				t.Errorf("%s\n%v %q, want an error with %q", test.script, err, out, test.want)
			}
		})
	}
}

// A file system without user extended attributes still works while the
// supervisor lives. ramfs is one.
func TestWithoutAttributes(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "m"), 0) })
	got := shell(t, s, dir, `
		mkdir m; mount -t ramfs none m; cd m; touch f; mkdir d; chown 3:4 f; chown 0:5 d; mv f g; stat -c %u:%g g d
		chown 0 g; chgrp 0 g; stat -c %u:%g g`)
	if want := "3:4\n0:5\n0:0\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if others := s.Others(); len(others) != 1 || others[0].GID != 5 || filepath.Base(others[0].Path) != "d" {
		t.Errorf("Others() = %+v, want d with group 5", others)
	}
}

func TestOthersFollowsRenames(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	shell(t, s, dir, `ln -s x l.new; chown -h 3:4 l.new; mv l.new l; ln -s x gone; chown -h 5:6 gone; rm gone; ln -s x again; stat -c %u:%g again`)
	var found bool
	for _, entry := range s.Others() {
		found = found || entry.Path == filepath.Join(dir, "l") && entry.UID == 3 && entry.GID == 4
	}
	if !found {
		t.Errorf("Others() = %+v, want %s with 3:4", s.Others(), filepath.Join(dir, "l"))
	}
	if got := recorded(t, s, dir, "again"); got != "" {
		t.Errorf("a new link has the owner %s of a removed one", got)
	}
}

// What one supervisor reports another one can be told.
func TestKnown(t *testing.T) {
	first, dir := start(t, Options{}), t.TempDir()
	shell(t, first, dir, `ln -s x l; chown -h 3:4 l; mkfifo p; chown 5:6 p`)
	known := append(first.Others(), Entry{Path: filepath.Join(dir, "missing"), UID: 1})
	second := start(t, Options{Known: known})
	if out := shell(t, second, dir, `stat -c %u:%g l p; chown -h 0:0 l`); out != "3:4\n5:6\n" {
		t.Errorf("printed %q", out)
	}
	others := second.Others()
	if len(others) != 2 || others[0].Path != filepath.Join(dir, "l") || others[0].UID != 0 || others[1].Path != filepath.Join(dir, "p") || others[1].UID != 5 {
		t.Errorf("Others() = %+v, want l of root and p", others)
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	third := start(t, Options{Root: root, Known: []Entry{{Path: "/p", UID: 5, GID: 6}, {Path: "/l", UID: 3}, {Path: "/none/p", UID: 9}, {Path: "/l/x", UID: 1}, {Path: "/", UID: 1}}})
	shell(t, third, dir, `mkdir -p d e; mv p d/q; mv d e/d; rm l; ln -s x l; mkfifo r; chown 7:8 r; mv r "e/n
é"`)
	var got []string
	for _, e := range third.Others() {
		got = append(got, fmt.Sprintf("%q %d:%d", e.Path, e.UID, e.GID))
	}
	if want := `["" 3:0 "/e/d/q" 5:6 "/e/n\né" 7:8]`; fmt.Sprint(got) != want {
		t.Errorf("Others() = %v, want %s", got, want)
	}
	if _, err := Start(Options{Known: []Entry{{Path: dir, UID: -5}}}); err == nil {
		t.Error("an impossible owner is accepted")
	}
}
