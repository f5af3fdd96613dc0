//go:build integration

package integration

import (
	"archive/tar"
	"strings"
	"testing"
)

// strangeTree makes one file of each kind that is easily lost on the way.
const strangeTree = `
      - run: |
          set -e
          mkdir -p /t/d /t/gone /t/opaque/old; cd /t
          echo file > file; touch -d 2001-02-03T04:05:06.789 file; ln file hard; ln file d/hard
          ln -s /nowhere/at/all sym; mkfifo -m 640 fifo
          cp /bin/true setuid; chmod 6755 setuid; chmod 1777 d
          cp /bin/true cap; perl -e '$f = "/t/cap"; $n = "security.capability"; $v = pack("V5", 0x02000001, 0x400, 0, 0, 0); syscall(188, $f, $n, $v, 20, 0) == 0 or die "setxattr: $!"'
          perl -e '$f = "/t/cap"; $n = "user.note"; $v = "kept"; syscall(188, $f, $n, $v, 4, 0) == 0 or die "setxattr: $!"'
          truncate -s 64M sparse; echo end >> sparse
          echo a > "$(printf 'new\nline')"; echo b > "$(printf 'not-\377-utf8')"
          long=$(printf '%0100d' 0); mkdir -p "$long/$long/$long"; echo c > "$long/$long/$long/deep"
          echo d > games; chown games:users games
      - run: rm -rf /t/gone /t/opaque; mkdir /t/opaque; echo new > /t/opaque/new
`

// Whatever a command makes is in its layer, in the layer of a stage that copies
// it, and in the layer of a stage that copies that.
func TestLayersKeepFiles(t *testing.T) {
	t.Parallel()
	p := newProject(t, `version: 1
stages:
  - name: made
    from: BASE
    steps:`+strangeTree+`
  - name: copied
    from: BASE
    steps:
      - {copy: /t, from: made, to: /t}
  - name: final
    from: scratch
    steps:
      - {copy: /t, from: copied, to: /t}
`)
	made, _ := p.export("--target", "made")
	final, o := p.export()
	for name, img := range map[string]*ociImage{"made": made, "final": final} {
		t.Run(name, func(t *testing.T) {
			img.t = t
			checkStrangeTree(img)
		})
	}
	if made.file("/t/games").Uid != 5 {
		t.Errorf("/t/games belongs to %d in its own stage, want 5", made.file("/t/games").Uid)
	}
	if final.file("/t/games").Uid != 0 {
		t.Errorf("/t/games belongs to %d after it was copied, want 0", final.file("/t/games").Uid)
	}
	tell(t, "strange", o.ImageID)
}

func checkStrangeTree(img *ociImage) {
	t := img.t
	t.Helper()
	long := strings.Repeat("0", 100)
	for name, want := range map[string]string{
		"/t/new\nline": "a\n", "/t/not-\xff-utf8": "b\n", "/t/opaque/new": "new\n",
		"/t/" + long + "/" + long + "/" + long + "/deep": "c\n",
	} {
		if got := img.file(name).content; got != want {
			t.Errorf("%q holds %q, want %q", name, got, want)
		}
	}
	links := 0
	for _, name := range []string{"/t/file", "/t/hard", "/t/d/hard"} {
		e := img.file(name)
		if e.Typeflag == tar.TypeLink {
			links++
		} else if e.ModTime.Unix() != 981173106 || e.ModTime.Nanosecond() != 0 {
			t.Errorf("%s: time %v", name, e.ModTime)
		}
	}
	if links != 2 {
		t.Errorf("%d of three names are hard links, want 2", links)
	}
	if e := img.file("/t/setuid"); e.Mode != 0o6755 {
		t.Errorf("setuid: mode %o", e.Mode)
	}
	if e := img.file("/t/d"); e.Mode != 0o1777 {
		t.Errorf("d: mode %o", e.Mode)
	}
	if e := img.file("/t/fifo"); e.Typeflag != tar.TypeFifo || e.Mode != 0o640 {
		t.Errorf("fifo: type %q, mode %o", e.Typeflag, e.Mode)
	}
	if e := img.file("/t/sym"); e.Linkname != "/nowhere/at/all" {
		t.Errorf("sym leads to %q", e.Linkname)
	}
	if e := img.file("/t/sparse"); e.Size != 64<<20+4 {
		t.Errorf("sparse: %d bytes", e.Size)
	}
	cap := img.file("/t/cap").PAXRecords["SCHILY.xattr.security.capability"]
	if cap != "\x01\x00\x00\x02\x00\x04\x00\x00"+strings.Repeat("\x00", 12) {
		t.Errorf("security.capability is %q", cap)
	}
	if note := img.file("/t/cap").PAXRecords["SCHILY.xattr.user.note"]; note != "kept" {
		t.Errorf("user.note is %q", note)
	}
	for name := range img.files() {
		if strings.HasPrefix(name, "/t/gone") || strings.HasPrefix(name, "/t/opaque/old") {
			t.Errorf("%s is there", name)
		}
	}
}

// A file that several layers share on disk cannot be changed through any of
// them: the copier of an image checks each layer's digest.
func TestLayersAreImmutable(t *testing.T) {
	t.Parallel()
	p := newProject(t, `version: 1
stages:
  - name: made
    from: BASE
    steps:
      - run: mkdir /t; cd /t; for f in write append chmod chown xattr cut touch gone; do echo NONCE $f > $f; done
  - name: copied
    from: BASE
    steps:
      - {copy: /t, from: made, to: /t}
  - name: final
    from: copied
    steps:
      - run: |
          set -e
          cd /t; echo other > write; echo more >> append; chmod 600 chmod; chown games chown; : > cut; touch touch; rm gone
          perl -e '$f = "/t/xattr"; $n = "user.note"; $v = "x"; syscall(188, $f, $n, $v, 1, 0) == 0 or die "setxattr: $!"'
      - run: cd /t; for f in *; do echo again >> $f; chmod 640 $f; done
`)
	made, _ := p.export("--target", "made")
	copied, _ := p.export("--target", "copied")
	final, _ := p.export()
	if got := final.file("/t/append").content; got != p.nonce+" append\nmore\nagain\n" {
		t.Errorf("append holds %q at the end", got)
	}
	again, _ := p.export("--target", "made")
	for _, img := range []*ociImage{made, copied, again} {
		for _, f := range []string{"write", "append", "chmod", "chown", "xattr", "cut", "touch", "gone"} {
			e := img.file("/t/" + f)
			if e.content != p.nonce+" "+f+"\n" || e.Mode != 0o644 || e.Uid != 0 || len(e.PAXRecords) != 0 {
				t.Errorf("%s: %q, mode %o, owner %d, %v", f, e.content, e.Mode, e.Uid, e.PAXRecords)
			}
		}
	}
}
