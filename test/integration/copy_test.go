//go:build integration

package integration

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a copy keeps and where it puts it, from the context and from a stage
// alike, for every user and with every driver.
func TestCopyKeeps(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `
  - name: made
    from: small
    steps:
      - run: mkdir -p /usr/lib /d/s && mv /bin /usr/bin && /usr/bin/busybox ln -s usr/bin /bin
      - run: echo elf >/usr/lib/libfoo.so.1 && ln -s libfoo.so.1 /usr/lib/libfoo.so && ln -s /etc /etclink
      - run: echo 1 >/d/one && ln /d/one /d/two && mkfifo /d/pipe && ln -s one /d/link && echo x >/d/s/x.tmp && echo y >/d/s/y
  - name: final
    from: made
    steps:
      - {copy: tree, to: /}
      - {copy: d, to: /tmp}
      - {copy: [/usr/lib/libfoo.so, "/usr/lib/libfoo.so*"], from: made, to: /named/}
      - {copy: /d, from: made, to: /stage, exclude: ["**/*.tmp"]}
      - {copy: "/d/*", from: made, to: /found/, exclude: ["one", "*.tmp"], owner: "7"}
      - {copy: d, to: /context, exclude: ["**/*.tmp"]}
      - {copy: odd, to: /odd}
      - run: ls /bin/foo.sh /usr/bin/foo.sh && [ "$(stat -c %a /tmp)" = 1777 ]
`)
	p.write("tree/bin/foo.sh", "foo")
	p.write("d/one", "1")
	p.write("d/s/x.tmp", "x")
	p.write("d/s/y", "y")
	p.write("odd/dir\xff/line\nbreak", "odd")
	in := func(name string) string { return filepath.Join(p.dir, name) }
	if err := errors.Join(os.Link(in("d/one"), in("d/two")), os.Symlink("one", in("d/link")), unix.Mkfifo(in("d/pipe"), 0o644), os.Chmod(in("d"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(in("d/one"), "user.checksum", []byte("123"), 0); err != nil {
		t.Skipf("attributes of files: %v", err)
	}
	files := p.exportEverywhere("copy-keeps").files()
	for name, kind := range map[string]byte{
		"/usr/bin/foo.sh": '0', "/bin": '2', "/named/libfoo.so": '0', "/named/libfoo.so.1": '0',
		"/stage/one": '0', "/stage/two": '1', "/stage/link": '2', "/stage/pipe": '6', "/stage/s/y": '0', "/stage/s/x.tmp": 0,
		"/found/one": 0, "/found/two": '0', "/found/link": 0, "/found/y": '0', "/found/x.tmp": 0,
		"/context/one": '0', "/context/two": '1', "/context/link": '2', "/context/pipe": '6', "/context/s/y": '0', "/context/s/x.tmp": 0,
		"/odd/dir\xff/line\nbreak": '0',
	} {
		if got := files[name].Typeflag; got != kind {
			t.Errorf("%q is of type %q, want %q", name, got, kind)
		}
	}
	if e := files["/found/two"]; e.Uid != 7 || e.Gid != 7 || files["/found"].Uid != 7 {
		t.Errorf("/found/two belongs to %d:%d, /found to %d", e.Uid, e.Gid, files["/found"].Uid)
	}
	if got := files["/context/one"].PAXRecords["SCHILY.xattr.user.checksum"]; got != "123" {
		t.Errorf("/context/one has the attribute %q", got)
	}
}
