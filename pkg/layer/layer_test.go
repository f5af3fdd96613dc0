package layer_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/layer"
)

var epoch = time.Unix(1700000000, 0)

// stream writes a tar stream as a storage library would: whatever headers the
// test wants, contents as many bytes as the size says.
func stream(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, hdr := range headers {
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatalf("%q: %v", hdr.Name, err)
		}
		if hdr.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content(hdr)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// content makes up the content of a test file; "content of NAME" repeated.
func content(hdr tar.Header) string {
	s := strings.Repeat("content of "+filepath.Base(hdr.Name)+"\n", int(hdr.Size)/12+1)
	return s[:hdr.Size]
}

func dir(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: epoch.Add(-time.Hour)}
}

func file(name string, size int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch.Add(-time.Hour)}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: epoch.Add(-time.Hour)}
}

func xattrs(hdr tar.Header, pairs ...string) tar.Header {
	hdr.PAXRecords = map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		hdr.PAXRecords["SCHILY.xattr."+pairs[i]] = pairs[i+1]
	}
	return hdr
}

func normalize(t testing.TB, src []byte, opt layer.Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := layer.Normalize(&buf, bytes.NewReader(src), opt); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type item struct {
	tar.Header
	content string
}

func read(t testing.TB, data []byte) []item {
	t.Helper()
	var items []item
	r := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item{*hdr, string(body)})
	}
}

func names(items []item) []string {
	var names []string
	for _, i := range items {
		names = append(names, i.Name)
	}
	return names
}

func wantNames(t *testing.T, data []byte, want ...string) {
	t.Helper()
	if got := names(read(t, data)); !slices.Equal(got, want) {
		t.Errorf("entries are %q, want %q", got, want)
	}
}

func scratch(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "scratch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// everything is a layer with one of each kind, in canonical order.
func everything() []tar.Header {
	long := strings.Repeat("long/", 59) + "name5" // 300 bytes
	return []tar.Header{
		xattrs(file("capable", 1), "security.capability", "\x01\x00\x00\x02"+strings.Repeat("\x00", 16)),
		{Typeflag: tar.TypeChar, Name: "dev", Devmajor: 1, Devminor: 3, Mode: 0o666},
		dir("dir"),
		file("dir/.wh..wh..opq", 0),
		file("dir/file", 1000),
		file("dir/.wh.gone", 0),
		file("dir/zero", 0),
		file("dir-file", 3),
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600},
		link("linked", "dir/file"),
		file(long, 2),
		file("new\nline", 1),
		{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o4755, Uid: 3000000, Gid: 12},
		{Typeflag: tar.TypeSymlink, Name: "symlink", Linkname: "../any\xffwhere", Mode: 0o777},
		file("umläut", 1),
		xattrs(file("xattrs", 0), "user.a", "1", "user.b", "\x00\xff", "user.c", "3"),
		file("\xff\xfe", 4),
	}
}

// The digest is part of the promise "same inputs, same digest, on any machine
// and another day". If it changes, every layer that users have changes with it.
func TestGolden(t *testing.T) {
	const want = "ab69ee41b452905407b3c3b13274cecbe75d3f0ea5fc15758689ae62ad07bd2a"
	out := normalize(t, stream(t, everything()...), layer.Options{Epoch: epoch})
	sum := sha256.Sum256(out)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest is %s, want %s; entries %q", got, want, names(read(t, out)))
	}
}

func TestNoiseDoesNotMatter(t *testing.T) {
	quiet := everything()
	noisy := everything()
	for i := range noisy {
		h := &noisy[i]
		h.Format = tar.FormatPAX
		h.Uname, h.Gname = "builder", "users"
		h.AccessTime, h.ChangeTime = time.Now(), time.Now()
		h.ModTime = h.ModTime.Add(123 * time.Millisecond)
		h.Mode |= 0o100000
		if h.Typeflag == tar.TypeSymlink {
			h.Mode = 0o120755
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.fflags"] = "nodump"
		for _, x := range []string{"security.selinux", "security.ima", "system.posix_acl_access", "trusted.overlay.opaque", "user.overlay.origin", "user.pdibuild.note", "user.fuseoverlayfs.origin", "user.containers.override_stat"} {
			h.PAXRecords["SCHILY.xattr."+x] = "x"
		}
		if strings.Contains(h.Name, ".wh.") {
			h.ModTime, h.Uid, h.Mode = time.Now(), 5, 0o644
		}
	}
	opt := layer.Options{Epoch: epoch}
	if !bytes.Equal(normalize(t, stream(t, quiet...), opt), normalize(t, stream(t, noisy...), opt)) {
		t.Error("times, users, flags or foreign attributes change the layer")
	}
}

func TestContentsAndNamesSurvive(t *testing.T) {
	src := stream(t, everything()...)
	in, out := read(t, src), read(t, normalize(t, src, layer.Options{Epoch: epoch}))
	if len(in) != len(out) {
		t.Fatalf("%d entries became %d", len(in), len(out))
	}
	for i := range in {
		a, b := in[i], out[i]
		if a.Name != b.Name || a.Linkname != b.Linkname || a.content != b.content || a.Typeflag != b.Typeflag ||
			a.Devmajor != b.Devmajor || a.Devminor != b.Devminor || a.Uid != b.Uid || a.Gid != b.Gid {
			t.Errorf("%+v became %+v", a, b)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ in, want int64 }{
		{1700000001, 1700000000}, {1700000000, 1700000000}, {1699999999, 1699999999}, {0, 0}, {-5, 0}, {1 << 40, 1700000000},
	} {
		f := file("f", 0)
		f.ModTime = time.Unix(c.in, 0)
		f.Format = tar.FormatPAX
		out := read(t, normalize(t, stream(t, f), layer.Options{Epoch: epoch}))
		if got := out[0].ModTime.Unix(); got != c.want {
			t.Errorf("time %d became %d, want %d", c.in, got, c.want)
		}
	}
	out := read(t, normalize(t, stream(t, file("f", 0)), layer.Options{}))
	if got := out[0].ModTime.Unix(); got != 0 {
		t.Errorf("without an epoch the time is %d, want 0", got)
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		hdr  tar.Header
		want tar.Format
	}{
		{file("plain", 1), tar.FormatUSTAR},
		{file(strings.Repeat("d/", 70)+"splits", 1), tar.FormatUSTAR},
		{file(strings.Repeat("x", 101), 1), tar.FormatPAX},
		{file("ä", 1), tar.FormatPAX},
		{file("\xff", 1), tar.FormatPAX},
		{xattrs(file("x", 1), "user.a", "1"), tar.FormatPAX},
		{xattrs(file("\xff", 1), "user.a", "\x00\xff"), tar.FormatPAX},
	} {
		for _, in := range []tar.Format{tar.FormatUnknown, tar.FormatPAX} {
			c.hdr.Format = in
			out := read(t, normalize(t, stream(t, c.hdr), layer.Options{Epoch: epoch}))
			if out[0].Format != c.want {
				t.Errorf("%.20q is written as %v, want %v", c.hdr.Name, out[0].Format, c.want)
			}
		}
	}
}

// GNU tar is an independent judge of names that are not UTF-8.
func TestGNUTarReadsNames(t *testing.T) {
	gnu, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar program here")
	}
	weird := []string{"\xff\xfe", "a\nb", "ä", strings.Repeat("\xe4", 200)}
	var headers []tar.Header
	for _, name := range weird {
		headers = append(headers, file(name, 5))
	}
	slices.SortFunc(headers, func(a, b tar.Header) int { return strings.Compare(a.Name, b.Name) })
	d := t.TempDir()
	cmd := exec.Command(gnu, "-x", "-C", d)
	cmd.Stdin = bytes.NewReader(normalize(t, stream(t, headers...), layer.Options{Epoch: epoch}))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range weird {
		if _, err := os.Stat(filepath.Join(d, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestCanonicalOrder(t *testing.T) {
	var tree layer.Tree
	for _, h := range []tar.Header{
		file("b/z", 0), dir("a-b"), file("a/c", 0), file("a-b/x", 0), file("a/.wh.b", 0), dir("b"), file("a/.wh..wh..opq", 0),
		dir("a"), file("a.txt", 0), file("a/b2", 0), file("a/a", 0), file("B", 0), file(".wh.a0", 0),
	} {
		if err := addFromStream(&tree, h); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	if _, err := tree.Encode(&buf, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"B", "a/", "a/.wh..wh..opq", "a/a", "a/.wh.b", "a/b2", "a/c", "a-b/", "a-b/x", "a.txt", ".wh.a0", "b/", "b/z"}
	wantNames(t, buf.Bytes(), want...)
}

// addFromStream adds an entry as a stream names it.
func addFromStream(tree *layer.Tree, h tar.Header) error {
	dir, base := path.Split(h.Name)
	hidden, ok := strings.CutPrefix(base, ".wh.")
	switch {
	case hidden == ".wh..opq":
		return tree.RemoveBelow(dir)
	case ok:
		return tree.Remove(dir + hidden)
	}
	return tree.Add(layer.Entry{Header: h})
}

func TestWhiteoutBeforeItsReplacement(t *testing.T) {
	want := []string{"a", ".wh.f", "f/", "f/x", "g"}
	src := stream(t, file("a", 0), file(".wh.f", 0), dir("f"), file("f/x", 0), file("g", 0))
	wantNames(t, normalize(t, src, layer.Options{}), want...)
	shuffled := stream(t, file("g", 0), file("f/x", 0), dir("f"), file(".wh.f", 0), file("a", 0))
	wantNames(t, normalize(t, shuffled, layer.Options{Scratch: scratch(t)}), want...)
}

// What the caller does with a header after Add is its own affair.
func TestTreeKeepsItsHeaders(t *testing.T) {
	var tree layer.Tree
	h := xattrs(file("f", 0), "user.a", "1")
	if err := tree.Add(layer.Entry{Header: h}); err != nil {
		t.Fatal(err)
	}
	h.PAXRecords["SCHILY.xattr.user.a"] = "2"
	var buf bytes.Buffer
	if _, err := tree.Encode(&buf, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, buf.Bytes())[0].PAXRecords["SCHILY.xattr.user.a"]; got != "1" {
		t.Errorf("attribute is %q", got)
	}
}

// The order is that of filepath.WalkDir, by which containers/storage walks.
func TestOrderIsThatOfWalkDir(t *testing.T) {
	d := t.TempDir()
	var tree layer.Tree
	for _, name := range []string{"lib", "lib.so", "lib-2", "lib/x", "lib/x y", "lib/x.d", "lib/x.d/f", "lib/x-", "lib2", "Lib"} {
		isDir := name == "lib" || name == "lib/x.d"
		h := file(name, 0)
		if isDir {
			h = dir(name)
			if err := os.MkdirAll(filepath.Join(d, name), 0o755); err != nil {
				t.Fatal(err)
			}
		} else {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(d, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := addFromStream(&tree, h); err != nil {
			t.Fatal(err)
		}
	}
	var walked []string
	err := filepath.WalkDir(d, func(p string, e os.DirEntry, err error) error {
		if err == nil && p != d {
			name, _ := filepath.Rel(d, p)
			if e.IsDir() {
				name += "/"
			}
			walked = append(walked, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := tree.Encode(&buf, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	wantNames(t, buf.Bytes(), walked...)
}

func TestOutOfOrder(t *testing.T) {
	// The order in which storage drivers without differences of their own list changes.
	src := stream(t, dir("a"), file("a-b", 9), link("a-c", "a-b"), link("a/b", "a-b"), file("a/c", 5))
	var order *layer.OrderError
	_, err := layer.Normalize(io.Discard, bytes.NewReader(src), layer.Options{})
	if !errors.As(err, &order) || order.Name != "a/b" || order.After != "a-c" {
		t.Errorf("error is %v", err)
	}
	out := normalize(t, src, layer.Options{Scratch: scratch(t), Epoch: epoch})
	wantNames(t, out, "a/", "a/b", "a/c", "a-b", "a-c")
	items := read(t, out)
	if items[1].content != content(file("a-b", 9)) || items[1].Typeflag != tar.TypeReg {
		t.Errorf("the first name of a hard-linked file is %+v, want the file", items[1])
	}
	if items[3].Linkname != "a/b" || items[4].Linkname != "a/b" {
		t.Errorf("links lead to %q and %q, want a/b", items[3].Linkname, items[4].Linkname)
	}
	if items[2].content != content(file("c", 5)) {
		t.Errorf("a/c holds %q", items[2].content)
	}
	if _, err := layer.Normalize(io.Discard, bytes.NewReader(stream(t, file("a", 0), file("a", 0))), layer.Options{}); !errors.As(err, &order) {
		t.Errorf("the same name twice: %v", err)
	}
}

func TestSortedEqualsStreamed(t *testing.T) {
	src := stream(t, everything()...)
	streamed := normalize(t, src, layer.Options{Epoch: epoch})
	sorted := normalize(t, src, layer.Options{Epoch: epoch, Scratch: scratch(t)})
	if !bytes.Equal(streamed, sorted) {
		t.Error("the same layer gives different bytes when it is sorted")
	}
	shuffled := everything()
	slices.Reverse(shuffled)
	if !bytes.Equal(streamed, normalize(t, stream(t, shuffled...), layer.Options{Epoch: epoch, Scratch: scratch(t)})) {
		t.Error("the same entries in another order give different bytes")
	}
}

func TestByteCode(t *testing.T) {
	pyc := func(flags, mtime uint32, rest string) string {
		b := []byte{0xcb, 0x0d, '\r', '\n'}
		b = binary.LittleEndian.AppendUint32(b, flags)
		b = binary.LittleEndian.AppendUint32(b, mtime)
		b = binary.LittleEndian.AppendUint32(b, 77)
		return string(b) + rest
	}
	late, limit := uint32(epoch.Unix()+99), uint32(epoch.Unix())
	below := func(p string) bool { return p == "lib/base.py" || p == "lib/old.py" }
	for _, c := range []struct{ name, in, want string }{
		{"m.pyc", pyc(0, late, "code"), pyc(0, limit, "code")},
		{"m.pyc", pyc(0, late, ""), pyc(0, limit, "")},
		{"m.pyc", pyc(0, limit-1, "code"), pyc(0, limit-1, "code")},
		{"m.pyc", pyc(1, late, "hash"), pyc(1, late, "hash")},
		{"m.pyc", pyc(0, late, "")[:15], pyc(0, late, "")[:15]},
		{"m.pyo", pyc(0, late, "code"), pyc(0, late, "code")},
		{"m.pyc", "not byte code at all", "not byte code at all"},
		{"m.pyc", "\x00\x00" + pyc(0, late, "")[2:], "\x00\x00" + pyc(0, limit, "")[2:]},
		{"m.pyc", "\x00\x00\x00\x00" + pyc(0, late, "")[4:], "\x00\x00\x00\x00" + pyc(0, late, "")[4:]},
		{"lib/__pycache__/base.cpython-312.opt-1.pyc", pyc(0, late, "x"), pyc(0, late, "x")},
		{"lib/__pycache__/here.cpython-312.pyc", pyc(0, late, "x"), pyc(0, limit, "x")},
		{"lib/old.pyc", pyc(0, late, "x"), pyc(0, late, "x")},
	} {
		var tree layer.Tree
		if err := tree.Add(layer.Entry{Header: file(c.name, int64(len(c.in))), Open: layer.Bytes([]byte(c.in))}); err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if _, err := tree.Encode(&buf, layer.Options{Epoch: epoch, Below: below}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, buf.Bytes())[0].content; got != c.want {
			t.Errorf("%s: %q became %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	sets := "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x00"
	asRoot := "\x01\x00\x00\x02" + sets
	rootless := "\x01\x00\x00\x03" + sets + "\xa0\x86\x01\x00"
	for _, value := range []string{asRoot, rootless} {
		out := read(t, normalize(t, stream(t, xattrs(file("ping", 1), "security.capability", value)), layer.Options{}))
		if got := out[0].PAXRecords["SCHILY.xattr.security.capability"]; got != asRoot {
			t.Errorf("%q became %q, want %q", value, got, asRoot)
		}
	}
}

func TestXattrs(t *testing.T) {
	src := stream(t, xattrs(file("f", 1), "user.mime", "text", "user.empty", "", "security.selinux", "s", "trusted.x", "t", "user.overlay.x", "o"))
	out := read(t, normalize(t, src, layer.Options{}))
	want := map[string]string{"SCHILY.xattr.user.mime": "text", "SCHILY.xattr.user.empty": ""}
	if fmt.Sprint(out[0].PAXRecords) != fmt.Sprint(want) {
		t.Errorf("attributes are %q, want %q", out[0].PAXRecords, want)
	}
}

func TestOwner(t *testing.T) {
	src := stream(t, xattrs(file("a", 1), "user.pdibuild.owner", "1001:1002"), file("b", 1), file(".wh.c", 0))
	opt := layer.Options{Owner: func(hdr *tar.Header) {
		if hdr.Name == "b" {
			hdr.Uid, hdr.Gid = 7, 8
		}
		if strings.HasPrefix(hdr.Name, ".wh.") {
			t.Error("asked for the owner of a whiteout")
		}
	}}
	out := read(t, normalize(t, src, opt))
	if out[0].Uid != 1001 || out[0].Gid != 1002 || len(out[0].PAXRecords) != 0 {
		t.Errorf("recorded owner: %+v", out[0])
	}
	if out[1].Uid != 7 || out[1].Gid != 8 {
		t.Errorf("owner by option: %+v", out[1])
	}
	for _, bad := range []string{"", "1", "1:", ":1", "a:b", "-1:2", "1:2:3", "4294967296:0"} {
		_, err := layer.Normalize(io.Discard, bytes.NewReader(stream(t, xattrs(file("etc/f", 1), "user.pdibuild.owner", bad))), layer.Options{})
		if err == nil || !strings.Contains(err.Error(), `"etc/f"`) {
			t.Errorf("owner %q: error %v, want one that names the file", bad, err)
		}
	}
}

func TestSkip(t *testing.T) {
	skip := func(p string) bool { return p == "run/secrets" || p == "etc/hosts" || p == "tmp" }
	src := stream(t, dir("etc"), file("etc/.wh.hosts", 0), dir("run"), dir("run/secrets"), file("run/secrets/token", 9),
		file("run/secrets-not", 1), dir("tmp"), file("tmp/.wh..wh..opq", 0), dir("tmp/x"), file("tmp/x/y", 3), file("tmpfile", 1))
	for _, opt := range []layer.Options{{Skip: skip}, {Skip: skip, Scratch: scratch(t)}} {
		wantNames(t, normalize(t, src, opt), "etc/", "run/", "run/secrets-not", "tmpfile")
	}
}

func TestSkippedFileLeavesItsLinks(t *testing.T) {
	src := stream(t, file("a", 4), link("b", "a"), link("c", "a"))
	skip := func(p string) bool { return p == "a" }
	if _, err := layer.Normalize(io.Discard, bytes.NewReader(src), layer.Options{Skip: skip}); err == nil {
		t.Error("a link to nowhere was written")
	}
	out := normalize(t, src, layer.Options{Skip: skip, Scratch: scratch(t)})
	items := read(t, out)
	wantNames(t, out, "b", "c")
	if items[0].content != content(file("a", 4)) || items[1].Linkname != "b" {
		t.Errorf("links became %+v", items)
	}
}

// A whiteout of what no layer below has is none, and nor is a directory that
// has nothing else.
func TestWhiteoutsThatHideNothing(t *testing.T) {
	src := stream(t, dir("d"), file("d/.wh.never", 0), file(".wh.gone", 0), file(".wh.never", 0), dir("o"), file("o/.wh..wh..opq", 0))
	var asked []string
	opt := layer.Options{
		Hides:   func(name string) bool { asked = append(asked, name); return name == "gone" },
		Changed: func(*tar.Header) bool { return false },
	}
	wantNames(t, normalize(t, src, opt), ".wh.gone", "o/", "o/.wh..wh..opq")
	if want := []string{"d/never", "gone", "never"}; !slices.Equal(slices.Sorted(slices.Values(asked)), want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
}

func TestUnchangedDirectories(t *testing.T) {
	src := stream(t, dir("a"), dir("a/b"), dir("a/b/c"), dir("d"), dir("d/e"), file("d/f", 1), dir("g"), dir("g/h"), dir("o"), file("o/.wh..wh..opq", 0), dir("z"))
	changed := func(hdr *tar.Header) bool { return hdr.Name == "g/h/" }
	wantNames(t, normalize(t, src, layer.Options{Changed: changed}), "d/", "d/f", "g/", "g/h/", "o/", "o/.wh..wh..opq")
	none := func(*tar.Header) bool { return false }
	var stats layer.Stats
	stats, err := layer.Normalize(io.Discard, bytes.NewReader(stream(t, dir("a"), dir("a/b"))), layer.Options{Changed: none})
	if err != nil || !stats.Empty() {
		t.Errorf("untouched directories make a layer: %+v, %v", stats, err)
	}
}

// rm -rf d; mkdir -p d/kept: one driver calls d opaque, another lists what is gone.
func TestOpaqueIsSpeltOut(t *testing.T) {
	below := map[string][]string{"": {"d", "x"}, "d": {"kept", "gone", "file"}, "d/kept": {"old", "new"}, "d/gone": {"deep"}}
	lower := func(dir string) ([]string, error) { return below[dir], nil }
	overlay := stream(t, dir("d"), file("d/.wh..wh..opq", 0), file("d/file", 5), dir("d/kept"), file("d/kept/new", 3))
	listed := stream(t, dir("d"), file("d/.wh.gone", 0), file("d/file", 5), dir("d/kept"), file("d/kept/.wh.old", 0), file("d/kept/new", 3))
	out := normalize(t, overlay, layer.Options{Lower: lower, Scratch: scratch(t)})
	wantNames(t, out, "d/", "d/file", "d/.wh.gone", "d/kept/", "d/kept/new", "d/kept/.wh.old")
	if !bytes.Equal(out, normalize(t, listed, layer.Options{Lower: lower, Scratch: scratch(t)})) {
		t.Error("the two differ")
	}
	broken := errors.New("no such layer")
	_, err := layer.Normalize(io.Discard, bytes.NewReader(overlay), layer.Options{
		Scratch: scratch(t), Lower: func(string) ([]string, error) { return nil, broken },
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf("error is %v", err)
	}
}

func TestStats(t *testing.T) {
	stats, err := layer.Normalize(io.Discard, bytes.NewReader(stream(t, dir("a"), file("a/b", 100), link("a/c", "a/b"))), layer.Options{})
	if err != nil || stats != (layer.Stats{Entries: 3, Bytes: 100}) || stats.Empty() {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	stats, err = layer.Normalize(io.Discard, bytes.NewReader(stream(t)), layer.Options{})
	if err != nil || !stats.Empty() {
		t.Errorf("stats of nothing are %+v, %v", stats, err)
	}
}

func TestRefused(t *testing.T) {
	wh := file("d/.wh.x", 3)
	for name, headers := range map[string][]tar.Header{
		"leads out of the image":   {file("../x", 0)},
		"is not a directory":       {file("a", 0), file("a/b", 0)},
		"\"/d/.wh.x\" cannot be":   {wh},
		"begins with .wh.":         {dir("d/.wh.x")},
		"\"/d/.wh.x/y\"":           {file("d/.wh.x/y", 0)},
		"removes another file":     {file(".wh..wh.plnk", 0)},
		"no file \".wh.x\"":        {file(".wh.x", 0), link("y", ".wh.x")},
		"no file \"nowhere\"":      {link("l", "nowhere")},
		"no file \"d\" comes":      {dir("d"), link("l", "d")},
		"cannot be in an image":    {{Typeflag: 'V', Name: "volume"}},
		"hard link \"l\": layer e": {link("l", "../../etc/passwd")},
		"4294967296:0 is outside":  {owned(file("f", 1), 1<<32, 0)},
		"0:4294967295 is outside":  {owned(dir("d"), 0, 1<<32-1)},
		"0:-1 is outside":          {owned(file("f", 1), 0, -1)},
		"not \"0:4294967295\"":     {xattrs(file("f", 1), layer.OwnerXattr, "0:4294967295")},
	} {
		src := stream(t, headers...)
		_, err := layer.Normalize(io.Discard, bytes.NewReader(src), layer.Options{})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want one with %q", err, name)
		}
	}
}

func owned(hdr tar.Header, uid, gid int) tar.Header {
	hdr.Uid, hdr.Gid = uid, gid
	return hdr
}

func TestTruncatedStream(t *testing.T) {
	src := stream(t, dir("a"), file("a/b", 5000))
	for _, n := range []int{100, 513, 1024, 1500, 6000} {
		if _, err := layer.Normalize(io.Discard, bytes.NewReader(src[:n]), layer.Options{}); err == nil {
			t.Errorf("%d of %d bytes pass for a layer", n, len(src))
		}
	}
}

// A file whose name is that of a whiteout removes nothing: it is refused, of
// whatever kind and size.
func TestReservedNames(t *testing.T) {
	for _, name := range []string{".wh.victim", "d/.wh.victim", ".wh..wh..opq", "d/.wh..wh..opq", ".wh..wh.plnk", ".wh.", ".wh..wh.plnk/1", ".wh.d/x", "d/.wh./x"} {
		for _, h := range []tar.Header{
			file(name, 0), file(name, 3), dir(name), link(name, "victim"),
			{Typeflag: tar.TypeSymlink, Name: name, Linkname: "x"},
			{Typeflag: tar.TypeFifo, Name: name},
		} {
			var tree layer.Tree
			var reserved *layer.ReservedError
			if err := tree.Add(layer.Entry{Header: h}); !errors.As(err, &reserved) || reserved.Name != "/"+name {
				t.Errorf("%s of type %c: %v, want a ReservedError that names it", name, h.Typeflag, err)
			}
		}
	}
	src := stream(t, file(".wh.gone", 0))
	wantNames(t, normalize(t, src, layer.Options{}), ".wh.gone")
}

// What goes wrong at the other end of a pipe after the last entry counts.
func TestErrorAfterTheEnd(t *testing.T) {
	broken := errors.New("the disk is on fire")
	src := io.MultiReader(bytes.NewReader(stream(t, file("a", 1))), iotestErrReader{broken})
	if _, err := layer.Normalize(io.Discard, src, layer.Options{}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type iotestErrReader struct{ err error }

func (r iotestErrReader) Read([]byte) (int, error) { return 0, r.err }

type inspector struct {
	seen  []string
	bytes bytes.Buffer
	stop  string
}

var errFound = errors.New("found something")

func (i *inspector) Entry(hdr *tar.Header) error {
	i.seen = append(i.seen, hdr.Name+">"+hdr.Linkname)
	return nil
}

func (i *inspector) Write(p []byte) (int, error) {
	i.bytes.Write(p)
	if i.stop != "" && bytes.Contains(i.bytes.Bytes(), []byte(i.stop)) {
		return 0, errFound
	}
	return len(p), nil
}

func TestInspect(t *testing.T) {
	src := stream(t, dir("a"), file("a/b", 10), link("a/c", "a/b"), dir("dropped"), file("e", 0))
	var i inspector
	normalize(t, src, layer.Options{Inspect: &i, Changed: func(*tar.Header) bool { return false }})
	if want := []string{"a/>", "a/b>", "a/c>a/b", "e>"}; !slices.Equal(i.seen, want) {
		t.Errorf("seen %q, want %q", i.seen, want)
	}
	if got := i.bytes.String(); got != content(file("b", 10)) {
		t.Errorf("content seen is %q", got)
	}
	i = inspector{stop: "of b"}
	_, err := layer.Normalize(io.Discard, bytes.NewReader(stream(t, dir("a"), file("a/b", 100))), layer.Options{Inspect: &i})
	if !errors.Is(err, errFound) || !strings.Contains(err.Error(), `"a/b"`) {
		t.Errorf("error is %v, want the inspector's with the file's name", err)
	}
}

func TestTreeContents(t *testing.T) {
	onDisk := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(onDisk, []byte("on disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	var tree layer.Tree
	for _, e := range []layer.Entry{
		{Header: file("/etc/old", 3), Open: layer.Bytes([]byte("old"))},
		{Header: file("./etc/old", 3), Open: layer.Bytes([]byte("new"))},
		{Header: file("disk", 7), Open: layer.File(onDisk)},
		{Header: dir("/")},
		{Header: link("etc/a", "/etc/b")},
		{Header: link("etc/b", "etc/old")},
	} {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if got := tree.MissingParents(); !slices.Equal(got, []string{"etc"}) {
		t.Errorf("missing parents are %q", got)
	}
	var buf bytes.Buffer
	stats, err := tree.Encode(&buf, layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, buf.Bytes(), "disk", "etc/a", "etc/b", "etc/old")
	items := read(t, buf.Bytes())
	if items[0].content != "on disk" || items[1].content != "new" || items[2].Linkname != "etc/a" || items[3].Linkname != "etc/a" {
		t.Errorf("entries are %+v", items)
	}
	if stats.Bytes != 10 || tree.Len() != 4 {
		t.Errorf("stats %+v, length %d", stats, tree.Len())
	}
}

func TestTreeErrors(t *testing.T) {
	for want, entries := range map[string][]layer.Entry{
		"leads to itself":       {{Header: link("a", "b")}, {Header: link("b", "a")}},
		"no file \"x\"":         {{Header: link("a", "x")}},
		"has a size":            {{Header: file("a", 5)}},
		"shrunk from 5 to 3":    {{Header: file("a", 5), Open: layer.Bytes([]byte("abc"))}},
		"grown beyond 5":        {{Header: file("a", 5), Open: layer.Bytes([]byte("abcdef"))}},
		"no such file":          {{Header: file("a", 5), Open: layer.File("/nonexistent")}},
		"\"a\" is not a direct": {{Header: file("a", 0)}, {Header: file("a/b", 0)}},
	} {
		var tree layer.Tree
		for _, e := range entries {
			if err := tree.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tree.Encode(io.Discard, layer.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	if err := new(layer.Tree).Add(layer.Entry{Header: file("../../x", 0)}); err == nil {
		t.Error("a name outside of the image was accepted")
	}
}

func TestHugeFile(t *testing.T) {
	const size = 9 << 30
	var tree layer.Tree
	stop := errors.New("enough")
	open := func() (io.ReadCloser, error) { return io.NopCloser(iotestErrReader{stop}), nil }
	if err := tree.Add(layer.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: size}, Open: open}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	inspect := &flushing{}
	if _, err := tree.Encode(&buf, layer.Options{Inspect: inspect}); !errors.Is(err, stop) {
		t.Fatalf("error is %v", err)
	}
	if inspect.size != size {
		t.Errorf("size is %d", inspect.size)
	}
	// The header itself: write enough content to get it through the buffer.
	open = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotestErrReader{stop})), nil
	}
	if err := tree.Add(layer.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: size}, Open: open}); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Encode(&buf, layer.Options{}); !errors.Is(err, stop) {
		t.Fatalf("error is %v", err)
	}
	hdr, err := tar.NewReader(&buf).Next()
	if err != nil || hdr.Size != size || hdr.Format != tar.FormatPAX {
		t.Errorf("header is %+v, %v", hdr, err)
	}
}

type flushing struct{ size int64 }

func (f *flushing) Entry(hdr *tar.Header) error       { f.size = hdr.Size; return nil }
func (f *flushing) Write(p []byte) (n int, err error) { return len(p), nil }

func FuzzNormalize(f *testing.F) {
	f.Add(stream(f, everything()...))
	f.Add(stream(f, dir("a"), file("a-b", 9), link("a/b", "a-b")))
	f.Add(stream(f, xattrs(file("a.pyc", 30), "user.pdibuild.owner", "1:2")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, src []byte) {
		opt := layer.Options{Epoch: epoch}
		var once, twice, sorted memory
		if stats, err := layer.Normalize(&once, bytes.NewReader(src), opt); err == nil {
			if items := read(t, once.data); len(items) != stats.Entries {
				t.Errorf("%d entries written, %d read", stats.Entries, len(items))
			}
			if _, err := layer.Normalize(&twice, bytes.NewReader(once.data), opt); err != nil {
				t.Fatalf("its own output: %v", err)
			}
			if !bytes.Equal(once.data, twice.data) {
				t.Error("normalizing twice is not the same as once")
			}
		}
		opt.Scratch = &memory{}
		if _, err := layer.Normalize(&sorted, bytes.NewReader(src), opt); err != nil {
			return
		}
		if _, err := layer.Normalize(&memory{}, bytes.NewReader(sorted.data), layer.Options{Epoch: epoch}); err != nil {
			t.Fatalf("its own sorted output: %v", err)
		}
	})
}

// memory is a Scratch of 4 MiB: a few bytes can describe a sparse file that
// fills every disk.
type memory struct{ data []byte }

func (m *memory) Write(p []byte) (int, error) {
	if len(m.data)+len(p) > 4<<20 {
		return 0, io.ErrShortWrite
	}
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func BenchmarkNormalize(b *testing.B) {
	headers := []tar.Header{}
	for i := range 1000 {
		headers = append(headers, file(fmt.Sprintf("file%04d", i), 100<<10))
	}
	src := stream(b, headers...)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, err := layer.Normalize(io.Discard, bytes.NewReader(src), layer.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTree100k(b *testing.B) {
	for b.Loop() {
		var tree layer.Tree
		for i := range 100000 {
			if err := tree.Add(layer.Entry{Header: file(fmt.Sprintf("d%d/file%d", i%100, i), 0)}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := tree.Encode(io.Discard, layer.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
