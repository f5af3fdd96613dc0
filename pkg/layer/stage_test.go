package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

var stageTime = time.Unix(1700000000, 0)

// stageOptions owns all files itself, so that the tests need no root.
func stageOptions(t *testing.T, split io.Writer) StageOptions {
	t.Helper()
	return StageOptions{
		Options: Options{Epoch: stageTime, Owner: func(h *tar.Header) { h.Uid, h.Gid = os.Getuid(), os.Getgid() }},
		Dir:     t.TempDir(), Split: split,
	}
}

// stageAndCheck stages the tree and checks that the stream which tar-split puts
// together from the staged files is the one that Encode writes.
func stageAndCheck(t *testing.T, tree *Tree) (StageOptions, *Staged) {
	t.Helper()
	var split, want, got bytes.Buffer
	opt := stageOptions(t, &split)
	staged, err := tree.Stage(opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Encode(&want, opt.Options); err != nil {
		t.Fatal(err)
	}
	files := storage.NewPathFileGetter(opt.Dir)
	if err := asm.WriteOutputTarStream(files, storage.NewJSONUnpacker(&split), &got); err != nil {
		t.Fatalf("put the stream together: %v", err)
	}
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		t.Errorf("%d bytes from the staged files, %d encoded, and they differ", got.Len(), want.Len())
	}
	if d := digest.FromBytes(want.Bytes()); staged.DiffID != d || staged.Size != int64(want.Len()) {
		t.Errorf("staged %s, %d bytes; encoded %s, %d bytes", staged.DiffID, staged.Size, d, want.Len())
	}
	return opt, staged
}

func writeFile(t *testing.T, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, stageTime, stageTime); err != nil {
		t.Fatal(err)
	}
	return name
}

func fileOf(name, full string, size int, owned bool) Entry {
	return Entry{
		Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size), ModTime: stageTime},
		Open:   File(full), Origin: Origin{Root: rootOf(full), Name: filepath.Base(full), Owned: owned},
	}
}

// rootOf opens the directory that has the file. It is closed when nothing uses
// it any more.
func rootOf(full string) *rootfs.Root {
	r, err := rootfs.Open(filepath.Dir(full))
	if err != nil {
		panic(err)
	}
	return r
}

func add(t *testing.T, tree *Tree, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return os.SameFile(x, y)
}

// The root directory has an entry where it was added, and nothing else changes.
func TestStageRoot(t *testing.T) {
	tree := &Tree{}
	add(t, tree, Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o644, ModTime: stageTime}},
		Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}})
	if _, staged := stageAndCheck(t, tree); staged.Entries != 1 || staged.RootMode != nil || tree.Len() != 1 {
		t.Errorf("%d entries, %d in the tree, root %v; Add takes no root", staged.Entries, tree.Len(), staged.RootMode)
	}
	tree.AddRoot(Entry{Header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o1711, ModTime: stageTime, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x"}}})
	opt, staged := stageAndCheck(t, tree)
	if staged.Entries != 2 || tree.Len() != 2 || *staged.RootMode != os.ModeDir|os.ModeSticky|0o711 {
		t.Errorf("%d entries, %d in the tree, root %v", staged.Entries, tree.Len(), staged.RootMode)
	}
	value := make([]byte, 10)
	n, err := unix.Lgetxattr(opt.Dir, "user.note", value)
	if info, statErr := os.Stat(opt.Dir); statErr != nil || err != nil || info.Mode() != *staged.RootMode || string(value[:n]) != "x" {
		t.Errorf("the directory has mode %v, attribute %q, %v", info.Mode(), value[:max(n, 0)], err)
	}
	next := t.TempDir()
	if err := InheritRoot(opt.Dir, next); err != nil {
		t.Fatal(err)
	}
	n, err = unix.Lgetxattr(next, "user.note", value)
	if info, statErr := os.Stat(next); statErr != nil || err != nil || info.Mode() != *staged.RootMode || string(value[:n]) != "x" {
		t.Errorf("the next root has mode %v, attribute %q, %v", info.Mode(), value[:max(n, 0)], err)
	}
	var first bytes.Buffer
	if _, err := tree.Encode(&first, opt.Options); err != nil {
		t.Fatal(err)
	}
	if hdr, err := tar.NewReader(&first).Next(); err != nil || hdr.Name != "./" || hdr.Mode != 0o1711 {
		t.Errorf("the first entry is %v, %v", hdr, err)
	}
}

func TestStageKinds(t *testing.T) {
	long := strings.Repeat("x", 120) + "/" + strings.Repeat("y", 120) + "/" + strings.Repeat("z", 60)
	tree := &Tree{}
	add(t, tree,
		Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o1755, ModTime: stageTime.Add(-time.Hour)}},
		Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/empty", Mode: 0o600}},
		Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/setuid", Mode: 0o4755, Size: 3}, Open: Bytes([]byte("abc"))},
		Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "d/hard", Linkname: "d/setuid"}},
		Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/sym", Linkname: "/nowhere/at all"}},
		Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o640}},
		Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/not\xffutf8\n", Mode: 0o644, Size: 1}, Open: Bytes([]byte("x"))},
		Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: long, Mode: 0o644, Size: 1}, Open: Bytes([]byte("l"))},
		Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "later", Mode: 0o644, ModTime: stageTime.Add(time.Hour)}},
	)
	opt, staged := stageAndCheck(t, tree)
	if staged.Linked != 0 {
		t.Errorf("%d bytes linked, though nothing has an origin", staged.Linked)
	}
	at := func(name string) os.FileInfo {
		info, err := os.Lstat(filepath.Join(opt.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if m := at("d/setuid").Mode(); m != 0o755|os.ModeSetuid {
		t.Errorf("d/setuid: mode %v", m)
	}
	if m := at("d/fifo").Mode(); m != 0o640|os.ModeNamedPipe {
		t.Errorf("d/fifo: mode %v", m)
	}
	if !os.SameFile(at("d/setuid"), at("d/hard")) {
		t.Error("d/hard is not the same file as d/setuid")
	}
	if got := at("d").ModTime(); !got.Equal(stageTime.Add(-time.Hour)) {
		t.Errorf("d: time %v; writing into it must not count", got)
	}
	if got := at("later").ModTime(); !got.Equal(stageTime) {
		t.Errorf("later: time %v, want the epoch", got)
	}
}

func TestStageLinksOnlyWhatIsTheSame(t *testing.T) {
	dir := t.TempDir()
	data := []byte("content")
	for name, c := range map[string]struct {
		mode  os.FileMode
		owned bool
		spoil func(*Entry)
		link  bool
	}{
		"same":           {mode: 0o644, link: true},
		"other mode":     {mode: 0o755},
		"owned":          {mode: 0o755, owned: true, link: true},
		"other time":     {mode: 0o644, spoil: func(e *Entry) { e.Header.ModTime = stageTime.Add(-time.Second) }},
		"later, clamped": {mode: 0o644, spoil: func(e *Entry) { e.Header.ModTime = stageTime.Add(time.Second) }, link: true},
	} {
		t.Run(name, func(t *testing.T) {
			full := writeFile(t, filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), data, c.mode)
			e := fileOf("f", full, len(data), c.owned)
			if c.spoil != nil {
				c.spoil(&e)
			}
			tree := &Tree{}
			add(t, tree, e)
			opt, staged := stageAndCheck(t, tree)
			if got := sameFile(t, full, filepath.Join(opt.Dir, "f")); got != c.link || (staged.Linked > 0) != c.link {
				t.Errorf("linked: %v (%d bytes), want %v", got, staged.Linked, c.link)
			}
			info, err := os.Stat(filepath.Join(opt.Dir, "f"))
			if err != nil || info.Mode() != 0o644 {
				t.Errorf("mode %v, want 0644: %v", info.Mode(), err)
			}
		})
	}
}

// Two files of the stream must stay two on disk, although they come from one:
// otherwise the next layer made of them would have a hard link.
func TestStageKeepsFilesApart(t *testing.T) {
	full := writeFile(t, filepath.Join(t.TempDir(), "f"), []byte("content"), 0o644)
	tree := &Tree{}
	add(t, tree, fileOf("a", full, 7, false), fileOf("b", full, 7, false))
	opt, staged := stageAndCheck(t, tree)
	if sameFile(t, filepath.Join(opt.Dir, "a"), filepath.Join(opt.Dir, "b")) || staged.Linked != 7 {
		t.Errorf("a and b are one file (%d bytes linked)", staged.Linked)
	}
}

// Byte code whose time is clamped has another content than its origin.
func TestStageCopiesClampedByteCode(t *testing.T) {
	code := append([]byte{0xcb, 0x0d, '\r', '\n', 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0}, "body"...)
	full := writeFile(t, filepath.Join(t.TempDir(), "m.pyc"), code, 0o644)
	tree := &Tree{}
	add(t, tree, fileOf("__pycache__/m.cpython-312.pyc", full, len(code), true))
	_, staged := stageAndCheck(t, tree)
	after, err := os.ReadFile(full)
	if err != nil || !bytes.Equal(code, after) || staged.Linked != 0 {
		t.Errorf("the origin was changed or linked (%d bytes): %v", staged.Linked, err)
	}
}

func TestStageKeepsHoles(t *testing.T) {
	full := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	e := fileOf("sparse", full, 64<<20+3, false)
	e.Origin = Origin{}
	tree := &Tree{}
	add(t, tree, e)
	opt, _ := stageAndCheck(t, tree)
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(opt.Dir, "sparse"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 64<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("size %d, on disk %d bytes", st.Size, st.Blocks*512)
	}
}

// An origin behind a link is no file of its root: neither its content nor the
// file itself comes into the layer.
func TestOriginBehindLink(t *testing.T) {
	top := t.TempDir()
	host := filepath.Join(top, "host")
	if err := errors.Join(os.MkdirAll(top+"/root", 0o755), os.Mkdir(host, 0o755), os.Symlink(host, top+"/root/link")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, host+"/file", []byte("host"), 0o644)
	root, err := rootfs.Open(top + "/root")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	e := fileOf("file", host+"/file", 4, false)
	e.Open, e.Origin = nil, Origin{Root: root, Name: "link/file"}
	tree := &Tree{}
	add(t, tree, e)
	if staged, err := tree.Stage(stageOptions(t, io.Discard)); err == nil {
		t.Errorf("it was staged: %+v", staged)
	}
	if _, err := tree.Encode(io.Discard, Options{Epoch: stageTime}); err == nil {
		t.Error("it was read")
	}
}

func TestSparseWriterWritesWhatItGets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var want []byte
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		w := &sparseWriter{file: f}
		for range rnd.IntN(6) {
			p := make([]byte, rnd.IntN(20000))
			if rnd.IntN(2) == 0 {
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
			}
			want = append(want, p...)
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
			t.Fatalf("wrote %d bytes, read %d others: %v", len(want), len(got), err)
		}
	}
}

// A file that changes while it is read is an error, not a wrong digest.
func TestStageFileOfAnotherSize(t *testing.T) {
	full := writeFile(t, filepath.Join(t.TempDir(), "f"), []byte("content"), 0o644)
	for _, size := range []int{3, 11} {
		tree := &Tree{}
		add(t, tree, fileOf("f", full, size, false))
		if _, err := tree.Stage(stageOptions(t, io.Discard)); err == nil {
			t.Errorf("size %d instead of 7 was staged", size)
		}
	}
}

func TestStageManyBlocks(t *testing.T) {
	tree := &Tree{}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		data := make([]byte, rnd.IntN(1<<uint(rnd.IntN(18))+1))
		for j := range data {
			data[j] = byte(rnd.Uint32())
		}
		add(t, tree, Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i%7, i), Size: int64(len(data))}, Open: Bytes(data)})
	}
	add(t, tree, Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 5<<20 + 1}, Open: Bytes(make([]byte, 5<<20+1))})
	stageAndCheck(t, tree)
}
