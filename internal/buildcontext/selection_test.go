package buildcontext

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/hosttest"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

var sources = []string{
	"a.txt", "b.md", "sub/c.txt", "d/1.py", "d/2.pyc", "d/s/3.pyc", "d/s/4.py",
	"real/lib.so.1", "real/lib.so -> lib.so.1", "real/deep/x", "dlink -> real", "flink -> real/lib.so", "abs -> /real/deep",
	"dangling -> nowhere", "loop -> loop", "outside -> ../../../etc/passwd",
}

// What a source stands for is the same in the context and in a stage: what it
// names is copied under that name, links are followed to what they lead to
// inside, and exclude also applies to what wildcards find.
func TestSelection(t *testing.T) {
	dir := hosttest.Plant(t, sources...)
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
		s := &Selection{Root: openRoot(t, dir), Exclude: strings.Fields(c.exclude)}
		if got := selected(s, c.source); got != c.want && (!strings.Contains(got, "error: ") || !strings.Contains(got, c.want)) {
			t.Errorf("%s without %q: %s\nwant %s", c.source, c.exclude, got, c.want)
		}
	}
}

// selected is a line about what source stands for.
func selected(s *Selection, source string) string {
	found, err := s.Find(source)
	if err != nil {
		return "error: " + err.Error()
	}
	var all []string
	var nothing error
	for i := range found {
		m := &found[i]
		text := m.Base()
		if m.Name != m.real {
			text += "=" + m.real[1:]
		}
		if m.IsDir() {
			text += ":"
		}
		err := s.Walk(m, func(_ *rootfs.File, rel string) error {
			if rel != "." {
				text += " " + rel
			}
			return nil
		})
		if errors.Is(err, errIgnored) || errors.Is(err, ErrExcluded) {
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
		s := &Selection{Root: openRoot(t, hosttest.Plant(t, files...)), ignore: ignore}
		if got := selected(s, c.source); got != c.want && (!strings.Contains(got, "error: ") || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s\nwant %s", c.source, got, c.want)
		}
	}
	dir := hosttest.Plant(t, files...)
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
		s := &Selection{Root: openRoot(t, hosttest.Plant(t, files...)), ignore: ignore}
		found, err := s.Find(c.source)
		if err != nil && !errors.Is(err, ErrNoMatch) {
			t.Errorf("%q: %v", c.source, err)
		}
		var got []string
		for i := range found {
			if err := s.Walk(&found[i], func(_ *rootfs.File, rel string) error { got = append(got, rel); return nil }); err != nil && !errors.Is(err, errIgnored) {
				t.Errorf("%q: %v", c.source, err)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q without %q: %q, not %q", c.source, c.ignore, got, c.want)
		}
	}
}

// Of hard links the key has what the image will have: which of the copied files
// are one. It is the same as ever where none are.
func TestKeyOfHardLinks(t *testing.T) {
	all, one := recipe.Copy{Sources: []string{"."}}, recipe.Copy{Sources: []string{"a"}}
	single, linked := hosttest.Plant(t, "a", "b"), hosttest.Plant(t, "a", "b")
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
	dir := hosttest.Plant(t, "d/f", "d/x")
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

// readContext reads what a step copies.
func readContext(t *testing.T, dir string, step recipe.Copy) (*Source, error) {
	t.Helper()
	return Read(Options{Dir: dir, Mode: step.Mode, Exclude: step.Exclude, Known: cache.OpenContents(t.TempDir(), dir)}, step.Sources)
}

func contextKey(t *testing.T, dir string, step recipe.Copy) string {
	t.Helper()
	source, err := readContext(t, dir, step)
	if err != nil {
		t.Fatal(err)
	}
	return source.Key
}

func openRoot(t *testing.T, dir string) *rootfs.Root {
	t.Helper()
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// An ignore file is understood or refused, whatever is in it.
func FuzzIgnore(f *testing.F) {
	f.Add([]byte("# comment\n*.o\n!keep.o\n/build/**\n"), "build/a/b.o")
	f.Add([]byte("\xef\xbb\xbf[a-\n**/[!x]\\\n!"), "../..")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if len(data) > 4<<10 || len(name) > 4<<10 {
			return
		}
		m, err := parseIgnore(".dockerignore", data)
		if err != nil {
			if !strings.Contains(err.Error(), ".dockerignore") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		c := &Selection{ignore: m}
		first, _ := c.ignores(name)
		if second, _ := c.ignores(name); first != second {
			t.Errorf("%q is ignored, and is not", name)
		}
		if all, _ := c.ignores("/"); all {
			t.Error("the whole context is ignored")
		}
	})
}
