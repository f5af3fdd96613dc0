package buildcache

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// newTree writes an install tree with zlib, hdf5 and app of world in it, as
// Spack calls it by the name recorded.
func newTree(t *testing.T, recorded string) string {
	t.Helper()
	root := t.TempDir()
	installs := map[string]any{}
	for _, name := range []string{"gcc", "ninja", "zlib", "hdf5", "app"} {
		p := world()[name]
		rel := relOf(p)
		installs[p.hash()] = map[string]any{"spec": node(p), "path": recorded + "/" + rel, "installed": !p.external && name != "ninja", "ref_count": 1, "explicit": name == "app"}
		if p.external || name == "ninja" {
			continue
		}
		prefix := filepath.Join(root, rel)
		writeFile(t, filepath.Join(prefix, ".spack/spec.json"), toJSON(t, specFileOf(p, 5, node)))
		writeFile(t, filepath.Join(prefix, ".spack/binary_distribution"), []byte("buildpath: /of an earlier archive\n"))
		writeFile(t, filepath.Join(prefix, "etc/conf"), []byte("prefix="+recorded+"/"+rel+"\nother=/not"+recorded+"/x\n"))
		writeFile(t, filepath.Join(prefix, "share/plain"), []byte("nothing of interest"))
		program := "\x7fELF\x02\x01\x01\x00\xff\x00" + recorded + "/" + rel + "/share\x00\x01\x02" + recorded + "/" + rel + "\x00end"
		writeFile(t, filepath.Join(prefix, "bin/program"), []byte(program))
		must(t, os.Chmod(filepath.Join(prefix, "bin/program"), 0o755))
		must(t, os.Link(filepath.Join(prefix, "bin/program"), filepath.Join(prefix, "bin/same")))
		must(t, os.Symlink(recorded+"/"+rel+"/etc", filepath.Join(prefix, "absolute")))
		must(t, os.Symlink("../etc/conf", filepath.Join(prefix, "share/relative")))
	}
	writeFile(t, filepath.Join(root, relOf(world()["hdf5"]), "bin/script"),
		[]byte("#!/bin/sh "+recorded+"/bin/sbang\nexport LD=-L"+recorded+"/"+relOf(world()["zlib"])+"/lib\n"))
	writeFile(t, filepath.Join(root, ".spack-db/index.json"), toJSON(t, map[string]any{"database": map[string]any{"version": "8", "installs": installs}}))
	return root
}

// relOf is where a package is in an install tree.
func relOf(p pkg) string { return "linux-x86_64_v3/" + p.name + "-" + p.version + "-" + p.hash() }

func push(t *testing.T, c *Cache, tree string, prefixes []string) *CopyResult {
	t.Helper()
	temp := t.TempDir()
	result, err := c.Push(t.Context(), tree, prefixes, PushOptions{TempDir: temp})
	must(t, err)
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("Push leaves %v behind, %v", left, err)
	}
	return result
}

// A tree goes into a cache of each kind, and out of it to somewhere else.
func TestPushAndPull(t *testing.T) {
	t.Run("directory", func(t *testing.T) { pushAndPull(t, t.TempDir()+"/cache") })
	t.Run("registry", func(t *testing.T) {
		pushAndPull(t, "oci+http://"+registry.Start(t, registry.Options{})+"/pushed/cache")
	})
}

func pushAndPull(t *testing.T, address string) {
	const recorded = "/opt/software/long-enough"
	tree, c := newTree(t, recorded), open(t, address)
	if r := push(t, c, tree, nil); len(r.Copied) != 3 || r.Index == nil || r.Index.Packages != 3 {
		t.Errorf("Push returns %+v", r)
	}
	if r := push(t, c, tree, nil); len(r.Copied) != 0 || len(r.Present) != 3 || r.SentBlobs != 0 {
		t.Errorf("the second time, Push returns %+v", r)
	}
	report, err := c.Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if !report.Sound() || report.Packages != 3 {
		t.Errorf("what was pushed is not sound: %+v", report)
	}
	out := filepath.Join(t.TempDir(), "out")
	result, err := c.Pull(t.Context(), out, PullOptions{Filters: []Filter{{Name: "hdf5"}}, Tree: "/new"})
	must(t, err)
	if len(result.Prefixes) != 2 || result.Sbang != "/new/bin/sbang" {
		t.Errorf("Pull returns %+v", result)
	}
	checkPulled(t, out, "/new", recorded)
	again, err := c.Pull(t.Context(), out, PullOptions{Tree: "/new"})
	must(t, err)
	if len(again.Prefixes) != 1 || len(again.Present) != 2 {
		t.Errorf("Pull of the rest returns %+v", again)
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".pdibuild-*")); len(left) > 0 {
		t.Errorf("Pull leaves %v", left)
	}
}

func checkPulled(t *testing.T, out, now, before string) {
	t.Helper()
	read := func(p pkg, name string) string {
		data, err := os.ReadFile(filepath.Join(out, relOf(p), name))
		must(t, err)
		return string(data)
	}
	zlib, hdf5 := world()["zlib"], world()["hdf5"]
	place := now + "/" + relOf(zlib)
	if got, want := read(zlib, "etc/conf"), "prefix="+place+"\nother=/not"+before+"/x\n"; got != want {
		t.Errorf("the text is %q, want %q", got, want)
	}
	if got, want := read(hdf5, "bin/script"), "#!/bin/sh "+now+"/bin/sbang\nexport LD=-L"+place+"/lib\n"; got != want {
		t.Errorf("the script is %q, want %q", got, want)
	}
	padded := strings.Repeat("/", len(before)-len(now)) + place
	if got, want := read(zlib, "bin/program"), "\x7fELF\x02\x01\x01\x00\xff\x00"+padded+"/share\x00\x01\x02"+padded+"\x00end"; got != want {
		t.Errorf("the program is %q, want %q", got, want)
	}
	dir := filepath.Join(out, relOf(zlib))
	a, err := os.Stat(dir + "/bin/program")
	must(t, err)
	b, err := os.Stat(dir + "/bin/same")
	must(t, err)
	if !os.SameFile(a, b) || a.Mode().Perm()&0o100 == 0 {
		t.Errorf("the hard link or the mode %v got lost", a.Mode())
	}
	for link, want := range map[string]string{"absolute": place + "/etc", "share/relative": "../etc/conf"} {
		if got, err := os.Readlink(filepath.Join(dir, link)); got != want {
			t.Errorf("the link %s goes to %q, want %q (%v)", link, got, want, err)
		}
	}
}

// Single prefixes are pushed as they are asked for, and the same prefix gives
// the same archive.
func TestPushPrefixes(t *testing.T) {
	tree := newTree(t, "/opt/software")
	prefix := filepath.Join(tree, relOf(world()["zlib"]))
	var digests []string
	for range 2 {
		dir := t.TempDir()
		if r := push(t, open(t, dir), "", []string{prefix}); len(r.Copied) != 1 || r.Copied[0] != world()["zlib"].hash() {
			t.Errorf("Push returns %+v", r)
		}
		info, err := open(t, dir).Info(t.Context(), world()["zlib"].hash())
		must(t, err)
		digests = append(digests, info.Archive.Digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("one prefix gives %s", digests)
	}
	for want, prefixes := range map[string][]string{
		"no install prefix": {t.TempDir()}, "is not installed in the tree": {prefix, tree + "/linux-x86_64_v3"},
	} {
		if _, err := open(t, t.TempDir()).Push(t.Context(), "", prefixes, PushOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Push of %s: %v, want %q", prefixes, err, want)
		}
	}
}

// What Push writes is what Spack's relocation reads.
func TestPushedArchive(t *testing.T) {
	tree, dir := newTree(t, "/opt/software"), t.TempDir()
	push(t, open(t, dir), tree, nil)
	names, info := readArchive(t, open(t, dir), world()["hdf5"].hash())
	prefix := "opt/software/" + relOf(world()["hdf5"])
	want := []string{
		"opt/", "opt/software/", "opt/software/linux-x86_64_v3/", prefix + "/", prefix + "/absolute",
		prefix + "/.spack/", prefix + "/.spack/spec.json", prefix + "/bin/", prefix + "/bin/program", prefix + "/bin/same", prefix + "/bin/script",
		prefix + "/etc/", prefix + "/etc/conf", prefix + "/share/", prefix + "/share/plain", prefix + "/share/relative", prefix + "/.spack/binary_distribution",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the archive has\n%q, want\n%q", names, want)
	}
	if !slices.Equal(info.Binaries, []string{"bin/program"}) || !slices.Equal(info.Links, []string{"absolute"}) || !slices.Equal(info.TextFiles, []string{"bin/script", "etc/conf"}) {
		t.Errorf("it says that %+v are to be changed", info)
	}
	if len(info.HashToPrefix) != 2 || info.BuildPath != "/opt/software" || info.SbangPath != "/opt/software/bin/sbang" {
		t.Errorf("it says %+v", info)
	}
}

func readArchive(t *testing.T, c *Cache, hash string) (names []string, info buildinfo) {
	t.Helper()
	body, _, err := c.Archive(t.Context(), hash)
	must(t, err)
	defer body.Close()
	zr, err := gzip.NewReader(body)
	must(t, err)
	for archive := tar.NewReader(zr); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, info
		}
		must(t, err)
		names = append(names, h.Name)
		if strings.HasSuffix(h.Name, buildInfo) {
			data, err := io.ReadAll(archive)
			must(t, err)
			info = parseInfo(t, data)
		}
	}
}

func parseInfo(t *testing.T, data []byte) buildinfo {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	must(t, err)
	defer root.Close()
	must(t, root.MkdirAll("a/b/.spack", 0o755))
	must(t, root.WriteFile("a/b/"+buildInfo, data, 0o644))
	u := &unpacked{root: root, dir: "a", prefix: "b"}
	must(t, u.readInfo())
	return u.info
}

// Programs have no room for a longer path: the error says so, and nothing is
// half there.
func TestPullToLongerPath(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	push(t, open(t, dir), newTree(t, "/short"), nil)
	_, err := open(t, dir).Pull(t.Context(), out, PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "padded_length") || !strings.Contains(err.Error(), "zlib@1.3.1") {
		t.Errorf("Pull returns %v", err)
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("Pull leaves %v", left)
	}
}

// Whoever makes an archive does not write outside of the tree with it.
func TestPullHostileArchive(t *testing.T) {
	const prefix = "opt/sw/zlib"
	for name, c := range map[string]struct {
		entries []*tar.Header
		info    string
	}{
		"name":      {[]*tar.Header{{Name: "../../evil", Typeflag: tar.TypeReg}}, ""},
		"link":      {[]*tar.Header{{Name: prefix + "/a", Typeflag: tar.TypeSymlink, Linkname: "/OUTSIDE"}, {Name: prefix + "/a/evil", Typeflag: tar.TypeReg}}, ""},
		"hard link": {[]*tar.Header{{Name: prefix + "/a", Typeflag: tar.TypeLink, Linkname: "../../../../etc/passwd"}}, ""},
		"prefix":    {nil, `{buildpath: /opt/sw, relative_prefix: ../../evil}`},
		"tree":      {nil, `{buildpath: /opt/sw, relative_prefix: .}`},
		"text":      {nil, `{buildpath: /opt/sw, relative_prefix: zlib, relocate_textfiles: [../../evil]}`},
		"nonsense":  {nil, `[`},
		"no place":  {nil, `{}`},
		"no prefix": {[]*tar.Header{{Name: "x", Typeflag: tar.TypeReg}}, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			var packed bytes.Buffer
			zw := gzip.NewWriter(&packed)
			tw := tar.NewWriter(zw)
			if c.info != "-" {
				c.entries = append(c.entries, &tar.Header{Name: prefix + "/.spack/binary_distribution", Typeflag: tar.TypeReg, Size: int64(len(c.info))})
			}
			for _, h := range c.entries {
				h.Mode, h.Linkname = 0o644, strings.Replace(h.Linkname, "/OUTSIDE", outside, 1)
				must(t, tw.WriteHeader(h))
				_, err := tw.Write([]byte(c.info)[:h.Size])
				must(t, err)
			}
			must(t, tw.Close())
			must(t, zw.Close())
			root, out := newV3(t, "zlib"), filepath.Join(t.TempDir(), "deep/tree")
			writeFile(t, manifestPath(root, world()["zlib"]), toJSON(t, map[string]any{"version": 3, "data": []any{
				writeBlob(t, root, archiveType, "gzip", packed.Bytes()),
				writeBlob(t, root, specType, "gzip", zipped(t, toJSON(t, specFileOf(world()["zlib"], 5, node)))),
			}}))
			_, err := open(t, root).Pull(t.Context(), out, PullOptions{})
			if err == nil {
				t.Error("Pull succeeds")
			}
			t.Log(err)
			for _, dir := range []string{outside, out, filepath.Dir(out)} {
				entries, err := os.ReadDir(dir)
				must(t, err)
				for _, e := range entries {
					if e.Name() != "tree" {
						t.Errorf("there is %s in %s", e.Name(), dir)
					}
				}
			}
		})
	}
}
