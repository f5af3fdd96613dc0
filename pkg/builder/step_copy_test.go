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
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/hosttest"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func contextKey(t *testing.T, dir string, step recipe.Copy) string {
	t.Helper()
	source, err := readContext(t, dir, step)
	if err != nil {
		t.Fatal(err)
	}
	return source.Key
}

// Where a step's files go: behind the links of the image, and never a file in
// the place of a directory or a directory in that of a file.
func TestPlaces(t *testing.T) {
	context := hosttest.Plant(t,
		"tree/bin/foo.sh", "etcfile/etc", "dd/s/t", "file", "lftree/lf", "dangtree/dang", "lfdir/lf/n", "dangdir/dang/n", "loopdir/loop/n",
		"outdir/out/n", "binlink/bin -> other", "a1/x", "b1/x/y", "a2/x -> y", "b2/x", "b3/x/z", "fdir/f/n", "etclink/etc -> usr",
		"chain1/bin/a", "chain2/bin -> usr/lib", "chain3/bin/b", "up/up2/u", "h/1", "h/2 = h/1", "h/3 = h/1", "over/1",
		"l1/l -> y", "l2/keep", "l3/lk/n",
	)
	image := hosttest.Plant(t,
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
	context, image := hosttest.Plant(t, "d/sub/f", "d/f", "link/l -> f"), hosttest.Plant(t, "tmp/sub/", "tmp/l -> x")
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

// Extended attributes are copied and count, but not what a desktop has noted.
func TestExtendedAttributes(t *testing.T) {
	dir := hosttest.Plant(t, "d/f", "d/g = d/f")
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
	context, image := hosttest.Plant(t, "d/f"), hosttest.Plant(t, "opt/")
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
	context, image := hosttest.Plant(t, "d/f"), hosttest.Plant(t, "opt/sub/")
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
	dir := hosttest.Plant(t, "d/f")
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

func readContext(t *testing.T, dir string, step recipe.Copy) (*buildcontext.Source, error) {
	t.Helper()
	return (&Plan{Context: dir, contents: cache.OpenContents(t.TempDir(), dir)}).copySource(step, nil)
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}
