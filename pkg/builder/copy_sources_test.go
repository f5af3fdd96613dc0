package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// plant makes a tree of files. A line is "DIR/", "FILE", whose content is its
// name, "LINK -> TARGET" or "NAME = OTHER", a hard link.
func plant(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, " -> ")
		name, other, isHard := strings.Cut(name, " = ")
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case isLink:
			err = errors.Join(err, os.Symlink(target, full))
		case isHard:
			err = errors.Join(err, os.Link(filepath.Join(dir, other), full))
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(full, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(full, []byte(name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var sources = []string{
	"a.txt", "b.md", "sub/c.txt", "d/1.py", "d/2.pyc", "d/s/3.pyc", "d/s/4.py",
	"real/lib.so.1", "real/lib.so -> lib.so.1", "real/deep/x", "dlink -> real", "flink -> real/lib.so", "abs -> /real/deep",
	"dangling -> nowhere", "loop -> loop", "outside -> ../../../etc/passwd",
}

// What a source stands for is the same in the context and in a stage: what it
// names is copied under that name, links are followed to what they lead to
// inside, and exclude is about what wildcards find, too.
func TestSelection(t *testing.T) {
	dir := plant(t, sources...)
	for _, c := range []struct{ source, exclude, want string }{
		{"a.txt", "", "a.txt"},
		{"/sub/../a.txt", "", "a.txt"},
		{"sub", "", "sub: c.txt"},
		{"sub/", "c.txt", "exclude leaves it out"},
		{"sub", "sub", "exclude leaves it out"},
		{"sub", "sub !c.txt", "sub: c.txt"},
		{"sub", "/sub/c.txt", "exclude leaves it out"},
		{"sub", "/c.txt", "exclude leaves it out"},
		{"sub", "*", "exclude leaves it out"},
		{"a.txt", "*.txt", "exclude leaves it out"},
		{"d/1.py", "*.py", "1.py"},
		{"d/1.py", "*/1.py", "exclude leaves it out"},
		{"d", "* !1.py", "d: 1.py"},
		{"d", "d/1.py s", "d: 2.pyc"},
		{".", "**", ".:"},
		{"*.txt", "*.txt", "no file matches"},
		{"*.nothing", "", "no file matches"},
		{"[ab].*", "", "a.txt b.md"},
		{"d", "*.pyc", "d: 1.py s s/3.pyc s/4.py"},
		{"d", "**/*.pyc", "d: 1.py s s/4.py"},
		{"d/*", "*.pyc", "1.py s: 4.py"},
		{"d/*", "1.py", "2.pyc s: 3.pyc 4.py"},
		{"d/*", "d/1.py", "2.pyc s: 3.pyc 4.py"},
		{"d/*", "/s", "1.py 2.pyc"},
		{"d/*", "s", "1.py 2.pyc"},
		{"d/*", "s !s/3.pyc", "1.py 2.pyc s: 3.pyc"},
		{"d/*", "* !1.py", "1.py"},
		{"d/*", "s/3.pyc", "1.py 2.pyc s: 4.py"},
		{"*/*.py*", "d/2.pyc", "1.py"},
		{"*/*.py*", "2.pyc", "1.py 2.pyc"},
		{"s*", "sub", "no file matches"},
		{"real/lib.so", "", "lib.so=real/lib.so.1"},
		{"flink", "", "flink=real/lib.so.1"},
		{"fli*", "", "flink=real/lib.so.1"},
		{"fli*", "flink", "no file matches"},
		{"real/lib*", "", "lib.so=real/lib.so.1 lib.so.1"},
		{"dlink", "", "dlink=real: deep deep/x lib.so lib.so.1"},
		{"dlin*", "deep", "dlink=real: lib.so lib.so.1"},
		{"dlink/lib.so.*", "*.1", "no file matches"},
		{"d*k/lib*.1", "", "lib.so.1"},
		{"abs", "", "abs=real/deep: x"},
		{"dangling", "", "/dangling is a link to /nowhere, which does not exist"},
		{"dang*", "", "/dangling is a link to /nowhere, which does not exist"},
		{"outside", "", "/outside is a link to /etc/passwd, which does not exist"},
		{"outs*", "", "/outside is a link to /etc/passwd, which does not exist"},
		{"loop", "", "too many levels of symbolic links"},
		{"missing", "", "no such file"},
		{"a.txt/x", "", "not a directory"},
	} {
		s := &selection{root: openRoot(t, dir), exclude: strings.Fields(c.exclude)}
		if got := selected(s, c.source); got != c.want && (!strings.Contains(got, "error: ") || !strings.Contains(got, c.want)) {
			t.Errorf("%s without %q: %s\nwant %s", c.source, c.exclude, got, c.want)
		}
	}
}

// selected is a line about what source stands for.
func selected(s *selection, source string) string {
	found, err := s.find(source)
	if err != nil {
		return "error: " + err.Error()
	}
	var all []string
	var nothing error
	for i := range found {
		m := &found[i]
		text := m.base()
		if m.name != m.real {
			text += "=" + m.real[1:]
		}
		if m.isDir() {
			text += ":"
		}
		err := s.walk(m, func(_ *rootfs.File, rel string) error {
			if rel != "." {
				text += " " + rel
			}
			return nil
		})
		if errors.Is(err, errIgnored) || errors.Is(err, errExcluded) {
			nothing = err
			continue
		}
		if err != nil {
			return "error: " + err.Error()
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "error: " + nothing.Error()
	}
	return strings.Join(all, " ")
}

// An ignore file says of each file whether it belongs to the context, however
// the file is found.
func TestIgnoreFile(t *testing.T) {
	files := append(sources, "dir/file1", "dir/file2", "dir/file3", "dir2/x", "huge/usr/bin/f1", "huge/x", "all/y", "secret", "s.link -> secret", "nowhere.link -> missing", "nowhere.too -> missing")
	ignored := "dir\n!dir*/file1\n!dir/file2\nhuge\n!huge/usr/bin\nall\nsecret\nnowhere.link\n"
	for _, c := range []struct{ source, want string }{
		{"dir*", "dir: file1 file2 dir2: x"},
		{"dir", "dir: file1 file2"},
		{"hug*", "huge: usr/bin usr/bin/f1"},
		{"huge", "huge: usr/bin usr/bin/f1"},
		{"huge/*", "usr: bin bin/f1"},
		{"dir/file*", "file1 file2"},
		{"dir/file1", "file1"},
		{"dir/file3", "it is ignored"},
		{"al*", "it is ignored"},
		{"all", "it is ignored"},
		{"sec*", "no file matches"},
		{"secret", "it is ignored"},
		{"s.*", "no file matches"},
		{"s.link", "it is ignored"},
		{"nowhere.l*", "no file matches"},
		{"nowhere.*", "which does not exist"},
	} {
		ignore, err := parseIgnore(".dockerignore", []byte(ignored))
		if err != nil {
			t.Fatal(err)
		}
		s := &selection{root: openRoot(t, plant(t, files...)), ignore: ignore}
		if got := selected(s, c.source); got != c.want && (!strings.Contains(got, "error: ") || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s\nwant %s", c.source, got, c.want)
		}
	}
	dir := plant(t, files...)
	writeFile(t, filepath.Join(dir, ".containerignore"), ignored)
	if _, err := readContext(t, dir, recipe.Copy{Sources: []string{"all"}}); !errors.Is(err, errIgnored) {
		t.Errorf("a directory of which nothing is left: %v", err)
	}
}

// Names are bytes.
func TestOddNames(t *testing.T) {
	files := []string{"dir\xff/f", "dir\xfe/f", "line\nbreak/deep/a.tmp", "line\nbreak/deep/b", `back\slash`, "cafe\xe9.txt", ".hidden"}
	for _, c := range []struct {
		source, ignore string
		want           []string
	}{
		{"dir\xff", "", []string{".", "f"}},
		{"dir?", "", []string{".", "f", ".", "f"}},
		{"dir?", "dir\xff", []string{".", "f"}},
		{"dir?", "dir?", nil},
		{"dir?", "**/f", nil},
		{"caf*", "*.txt", nil},
		{"caf*", "*\xe9*", nil},
		{"caf*", "*\xea*", []string{"."}},
		{"line*", "**/*.tmp", []string{".", "deep", "deep/b"}},
		{"line*", "line\nbreak/deep", nil},
		{`back\\slash`, "", []string{"."}},
		{`back?slash`, `back\\slash`, nil},
		{"*", "**", nil},
		{"*", "", []string{".", ".", ".", ".", "f", ".", "f", ".", "deep", "deep/a.tmp", "deep/b"}},
	} {
		ignore, err := newPatterns([]string{c.ignore})
		if c.ignore == "" {
			ignore, err = nil, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		s := &selection{root: openRoot(t, plant(t, files...)), ignore: ignore}
		found, err := s.find(c.source)
		if err != nil && !errors.Is(err, errNoMatch) {
			t.Errorf("%q: %v", c.source, err)
		}
		var got []string
		for i := range found {
			if err := s.walk(&found[i], func(_ *rootfs.File, rel string) error { got = append(got, rel); return nil }); err != nil && !errors.Is(err, errIgnored) {
				t.Errorf("%q: %v", c.source, err)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q without %q: %q, not %q", c.source, c.ignore, got, c.want)
		}
	}
}

func readContext(t *testing.T, dir string, step recipe.Copy) (*copySource, error) {
	t.Helper()
	c := &contextReader{dir: dir, newMode: step.Mode, known: cache.OpenContents(t.TempDir(), dir)}
	c.exclude = step.Exclude
	return c.read(step.Sources)
}

func contextKey(t *testing.T, dir string, step recipe.Copy) string {
	t.Helper()
	source, err := readContext(t, dir, step)
	if err != nil {
		t.Fatal(err)
	}
	return source.key
}

// Where a step's files go: behind the links of the image, and never a file in
// the place of a directory or a directory in that of a file.
func TestPlaces(t *testing.T) {
	context := plant(t,
		"tree/bin/foo.sh", "etcfile/etc", "dd/s/t", "file", "lftree/lf", "dangtree/dang", "lfdir/lf/n", "dangdir/dang/n", "loopdir/loop/n",
		"outdir/out/n", "binlink/bin -> other", "a1/x", "b1/x/y", "a2/x -> y", "b2/x", "b3/x/z", "fdir/f/n", "etclink/etc -> usr",
		"chain1/bin/a", "chain2/bin -> usr/lib", "chain3/bin/b", "up/up2/u", "h/1", "h/2 = h/1", "h/3 = h/1", "over/1",
		"l1/l -> y", "l2/keep", "l3/lk/n",
	)
	image := plant(t,
		"usr/bin/sh", "usr/lib/", "bin -> usr/bin", "etc/passwd", "lf -> etc/passwd", "dang -> /no/where", "loop -> loop", "f",
		"out -> ../../../../../outside", "up -> usr/bin/..", "opt/link -> /bin", "fifth -> f/../etc",
		"m/l -> x", "m/keep/k", "m/lk -> keep",
	)
	for _, c := range []struct{ copy, to, want string }{
		{"tree", "/", "usr/ usr/bin/ usr/bin/foo.sh"},
		{"tree", "/opt", "opt/ opt/bin/ opt/bin/foo.sh"},
		{"tree/bin", "/opt/link", "usr/ usr/bin/ usr/bin/foo.sh"},
		{"etcfile", "/", "/etc is a directory; etcfile/etc would take its place"},
		{"etclink", "/", "/etc is a directory; etclink/etc would take its place"},
		{"dd", "/etc/passwd", "/etc/passwd is not a directory; dd would go to /etc/passwd"},
		{"file", "/etc", "etc/ etc/file"},
		{"file", "/lf", "etc/ etc/passwd"},
		{"file", "/lf/", "/etc/passwd is not a directory; file would go to /lf/file"},
		{"file", "/dang", "no/ no/where"},
		{"file", "/dang/", "no/ no/where/ no/where/file"},
		{"file", "/loop", "/loop: too many levels of symbolic links; file would go to /loop"},
		{"file", "/loop/x", "/loop: too many levels of symbolic links; file would go to /loop/x"},
		{"file", "/out", "outside"},
		{"file", "/out/x/y", "outside/ outside/x/ outside/x/y"},
		{"dd", "/lf", "/etc/passwd is not a directory; dd would go to /lf"},
		{"dd", "/dang", "no/ no/where/ no/where/s/ no/where/s/t"},
		{"dd", "/loop", "/loop: too many levels of symbolic links; dd would go to /loop"},
		{"lftree", "/", "lf"},
		{"dangtree", "/", "dang"},
		{"lfdir", "/", "/etc/passwd is not a directory; lfdir/lf would go to /lf"},
		{"dangdir", "/", "no/ no/where/ no/where/n"},
		{"outdir", "/", "outside/ outside/n"},
		{"loopdir", "/", "/loop: too many levels of symbolic links; loopdir/loop would go to /loop"},
		{"binlink", "/", "bin->other"},
		{"file", "/f/x", "/f is not a directory; file would go to /f/x"},
		{"file", "/f/x/y", "/f is not a directory; file would go to /f/x/y"},
		{"file", "/f/", "/f is not a directory; file would go to /f/file"},
		{"fdir", "/", "/f is not a directory; fdir/f would go to /f"},
		{"file", "/fifth/x", "/f is not a directory; file would go to /fifth/x"},
		{"dd", "/up", "usr/ usr/s/ usr/s/t"},
		{".", "/f", "/f is not a directory; . would go to /f"},
		{"file dd", "/f", "/f is not a directory; file would go to /f/file"},
		// One after the other in one step.
		{"a1 b1", "/z", "/z/x is not a directory; b1/x would go to /z/x"},
		{"b1 a1", "/z", "/z/x is a directory that another source makes; a1/x would take its place"},
		{"a2 b2", "/z", "z/ z/x"},
		{"a2 b3", "/z", "z/ z/x->y z/y/ z/y/z"},
		{"b3 a2", "/z", "/z/x is a directory that another source makes; a2/x would take its place"},
		{"chain1 chain2 chain3", "/", "bin->usr/lib usr/ usr/bin/ usr/bin/a usr/lib/ usr/lib/b"},
		{"l1 l2", "/m", "/m/keep is a directory; l2/keep would take its place"},
		{"l1 l3", "/m", "m/ m/keep/ m/keep/n m/l->y"},
		{"h", "/z", "z/ z/1 z/2=z/1 z/3=z/1"},
		{"h over", "/z", "z/ z/1 z/2 z/3=z/2"},
		{"h over h", "/z", "z/ z/1 z/2 z/3=z/2"},
		{"h h/3 over/1 h/1", "/z", "z/ z/1 z/2 z/3=z/2"},
		{"h/1 h/2 over/1 h/3", "/z", "z/ z/1 z/2 z/3=z/2"},
	} {
		tree := &layer.Tree{}
		err := copyInto(t, context, image, tree, recipe.Copy{Sources: strings.Fields(c.copy), To: c.to})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = listed(t, tree)
		}
		var input *InputError
		if got != c.want || err != nil && !errors.As(err, &input) {
			t.Errorf("copy %s to %s: %s\nwant %s", c.copy, c.to, got, c.want)
		}
	}
}

// The destination itself keeps its attributes in the image; directories that
// are copied have theirs.
func TestDestinationKeepsAttributes(t *testing.T) {
	context, image := plant(t, "d/sub/f", "d/f", "link/l -> f"), plant(t, "tmp/sub/", "tmp/l -> x")
	for _, dir := range []string{filepath.Join(context, "d"), filepath.Join(context, "d/sub")} {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(image, "tmp"), 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ sources, to, want string }{
		{"d", "/tmp", "tmp/ 1777, tmp/f 644, tmp/sub/ 700, tmp/sub/f 644"},
		{"d", "/new", "new/ 700, new/f 644, new/sub/ 700, new/sub/f 644"},
		{"link d", "/tmp", "tmp/ 1777, tmp/f 644, tmp/l 777, tmp/sub/ 700, tmp/sub/f 644"}, // a link of the image is replaced
	} {
		tree := &layer.Tree{}
		if err := copyInto(t, context, image, tree, recipe.Copy{Sources: strings.Fields(c.sources), To: c.to}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, hdr := range headers(t, tree) {
			got = append(got, fmt.Sprintf("%s %o", hdr.Name, hdr.Mode))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("copy %s to %s: %s\nwant %s", c.sources, c.to, strings.Join(got, ", "), c.want)
		}
	}
}

// copyInto copies from a context into the tree of a layer on top of an image.
func copyInto(t *testing.T, context, image string, tree *layer.Tree, step recipe.Copy) error {
	t.Helper()
	source, err := readContext(t, context, step)
	if err != nil {
		t.Fatal(err)
	}
	view := &rootView{Root: openRoot(t, image)}
	c, err := newCopier(view, tree, step)
	if err == nil {
		err = c.addContext(source, context, time.Time{})
	}
	if err == nil {
		err = view.addParents(tree)
	}
	return err
}

// headers are those of a tree's layer.
func headers(t *testing.T, tree *layer.Tree) (all []*tar.Header) {
	t.Helper()
	var buf bytes.Buffer
	if _, err := tree.Encode(&buf, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&buf); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hdr)
	}
}

// listed is a line about a tree: DIR/, FILE, LINK->TARGET and NAME=OTHER.
func listed(t *testing.T, tree *layer.Tree) string {
	t.Helper()
	var names []string
	for _, hdr := range headers(t, tree) {
		switch hdr.Typeflag {
		case tar.TypeSymlink:
			hdr.Name += "->" + hdr.Linkname
		case tar.TypeLink:
			hdr.Name += "=" + hdr.Linkname
		}
		names = append(names, hdr.Name)
	}
	return strings.Join(names, " ")
}

// Of hard links the key has what the image will have: which of the copied files
// are one. It is the same as ever where none are.
func TestKeyOfHardLinks(t *testing.T) {
	all, one := recipe.Copy{Sources: []string{"."}}, recipe.Copy{Sources: []string{"a"}}
	single, linked := plant(t, "a", "b"), plant(t, "a", "b")
	for _, dir := range []string{single, linked} {
		writeFile(t, filepath.Join(dir, "b"), "a")
	}
	if contextKey(t, single, all) != contextKey(t, linked, all) {
		t.Fatal("equal contexts have two keys")
	}
	if err := errors.Join(os.Remove(filepath.Join(linked, "b")), os.Link(filepath.Join(linked, "a"), filepath.Join(linked, "b"))); err != nil {
		t.Fatal(err)
	}
	if contextKey(t, single, all) == contextKey(t, linked, all) {
		t.Error("two files and one with two names have the same key")
	}
	for _, step := range []recipe.Copy{one, {Sources: []string{"."}, Exclude: []string{"b"}}, {Sources: []string{"a", "a"}}, {Sources: []string{"a*"}}} {
		if contextKey(t, single, step) != contextKey(t, linked, step) {
			t.Errorf("the key of %v has a link that is not copied", step)
		}
	}
	if contextKey(t, linked, recipe.Copy{Sources: []string{"a", "b"}}) == contextKey(t, single, recipe.Copy{Sources: []string{"a", "b"}}) {
		t.Error("links between two sources do not count")
	}
}

// Where the step gives a mode, that of the context does not count.
func TestKeyOfMode(t *testing.T) {
	dir := plant(t, "d/f", "d/x")
	keys := func(mode string) string { return contextKey(t, dir, recipe.Copy{Sources: []string{"d"}, Mode: mode}) }
	kept, given, other := keys(""), keys("0644"), keys("0600")
	for name, mode := range map[string]fs.FileMode{"d": 0o700, "d/f": 0o600, "d/x": 0o755} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if keys("") == kept {
		t.Error("permissions that are copied do not count")
	}
	if keys("0644") != given || keys("0600") != other {
		t.Error("permissions that are not copied count")
	}
	if kept != given || given == other {
		t.Error("the key does not have the mode that the image gets")
	}
}

// Extended attributes are copied and count, but not what a desktop has noted.
func TestExtendedAttributes(t *testing.T) {
	dir := plant(t, "d/f", "d/g = d/f")
	set := func(name, value string) {
		t.Helper()
		if err := unix.Setxattr(filepath.Join(dir, "d/f"), name, []byte(value), 0); err != nil {
			t.Skipf("attributes of files: %v", err)
		}
	}
	step := recipe.Copy{Sources: []string{"d"}, To: "/"}
	plain := contextKey(t, dir, step)
	for _, name := range []string{"user.xdg.origin.url", "user.pdibuild.owner", "user.overlay.opaque", "user.mime_type"} {
		set(name, "1:1")
	}
	if contextKey(t, dir, step) != plain {
		t.Error("attributes that are not copied count")
	}
	set("user.checksum", "123")
	if contextKey(t, dir, step) == plain {
		t.Error("attributes that are copied do not count")
	}
	for _, step := range []recipe.Copy{step, {Sources: []string{"d"}, To: "/", Exclude: []string{"f"}}} {
		tree := &layer.Tree{}
		if err := copyInto(t, dir, t.TempDir(), tree, step); err != nil {
			t.Fatal(err)
		}
		hdr := headers(t, tree)[0]
		if len(hdr.PAXRecords) != 1 || hdr.PAXRecords["SCHILY.xattr.user.checksum"] != "123" || hdr.Uid != 0 {
			t.Errorf("%s has the attributes %v and owner %d", hdr.Name, hdr.PAXRecords, hdr.Uid)
		}
	}
}

// What a step makes belongs to its owner, with the directories above; a number
// alone is a group, too, unless it is a user of the image.
func TestOwnerOfWhatIsMade(t *testing.T) {
	context, image := plant(t, "d/f"), plant(t, "opt/")
	writeFile(t, filepath.Join(image, "etc/passwd"), "app:x:1001:50::/:/bin/sh\n")
	for owner, want := range map[string]string{"": "0:0", "7:0": "7:0", "7": "7:7", "1001": "1001:50", "app": "1001:50", "app:7": "1001:7"} {
		for _, to := range []string{"/opt/a/b", "/opt/a/b/", "/opt/a/b/f"} {
			tree := &layer.Tree{}
			if err := copyInto(t, context, image, tree, recipe.Copy{Sources: []string{"d"}, To: to, Owner: owner}); err != nil {
				t.Fatal(err)
			}
			for _, hdr := range headers(t, tree) {
				got := fmt.Sprintf("%d:%d", hdr.Uid, hdr.Gid)
				if hdr.Name == "opt/" && got != fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) || hdr.Name != "opt/" && got != want {
					t.Errorf("copy d to %s for %q: %s belongs to %s", to, owner, hdr.Name, got)
				}
			}
		}
	}
}

// A directory of the image that a layer has to name keeps all that it has.
func TestParentsKeepAttributes(t *testing.T) {
	context, image := plant(t, "d/f"), plant(t, "opt/sub/")
	for _, dir := range []string{"opt", "opt/sub"} {
		if err := unix.Setxattr(filepath.Join(image, dir), "user.site", []byte(dir), 0); err != nil {
			t.Skipf("attributes of files: %v", err)
		}
	}
	tree := &layer.Tree{}
	if err := copyInto(t, context, image, tree, recipe.Copy{Sources: []string{"d"}, To: "/opt/sub"}); err != nil {
		t.Fatal(err)
	}
	for _, hdr := range headers(t, tree)[:2] {
		if got := hdr.PAXRecords["SCHILY.xattr.user.site"] + "/"; got != hdr.Name {
			t.Errorf("%s has the attribute %q", hdr.Name, got)
		}
	}
}

// Pipes are copied as what they are, sockets are left out.
func TestSpecialFiles(t *testing.T) {
	dir := plant(t, "d/f")
	l, err := net.Listen("unix", filepath.Join(dir, "d/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.Mkfifo(filepath.Join(dir, "d/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := &layer.Tree{}
	if err := copyInto(t, dir, t.TempDir(), tree, recipe.Copy{Sources: []string{"d"}, To: "/"}); err != nil {
		t.Fatal(err)
	}
	all := headers(t, tree)
	if len(all) != 2 || all[1].Name != "pipe" || all[1].Typeflag != tar.TypeFifo {
		t.Errorf("of a directory with f, pipe and socket there are %s", listed(t, tree))
	}
}
