package buildcache

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func webServer(t *testing.T, root string) string {
	t.Helper()
	files := http.FileServerFS(os.DirFS(root))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.Error(w, "directories are not listed", http.StatusForbidden)
			return
		}
		http.StripPrefix("/cache", files).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/cache"
}

func TestListIsTheSameForAllKindsOfDirectories(t *testing.T) {
	v3, v2 := newV3(t, stored()...), newV2(t, stored()...)
	for name, address := range map[string]string{
		"directory of layout 3":  v3,
		"file URL":               "file://" + v3,
		"directory of layout 2":  v2,
		"web server of layout 3": webServer(t, v3),
		"web server of layout 2": webServer(t, v2),
	} {
		t.Run(name, func(t *testing.T) {
			packages, err := open(t, address).List(t.Context(), ListOptions{})
			must(t, err)
			var lines []string
			for _, p := range packages {
				lines = append(lines, p.String()+" "+p.Arch()+" %"+p.Compiler)
				if want := int64(len(archive(t, world()[p.Name]))); p.Size != want {
					t.Errorf("%s has %d bytes, want %d", p.String(), p.Size, want)
				}
				if p.Date.IsZero() || strings.HasPrefix(address, v3) && !p.Date.Equal(date) {
					t.Errorf("%s has the date %s", p.String(), p.Date)
				}
			}
			var want []string
			for _, name := range stored() {
				compiler := "gcc@12.2.0"
				if name == "py-tool" && !strings.Contains(t.Name(), "layout_2") {
					compiler = ""
				}
				want = append(want, world()[name].ref()+" linux-debian12-x86_64_v3 %"+compiler)
			}
			if got, want := strings.Join(lines, "\n"), strings.Join(want, "\n"); got != want {
				t.Errorf("List returns\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Autopush makes no index.
func TestListWithoutIndex(t *testing.T) {
	root := newV3(t, "zlib", "hdf5")
	must(t, os.RemoveAll(filepath.Join(root, "v3/manifests/index")))
	packages, err := open(t, root).List(t.Context(), ListOptions{Brief: true})
	must(t, err)
	if len(packages) != 2 {
		t.Errorf("%d packages, want 2", len(packages))
	}
	if _, err := open(t, webServer(t, root)).List(t.Context(), ListOptions{}); !errors.Is(err, ErrNoListing) {
		t.Errorf("a web server without an index: %v, want ErrNoListing", err)
	}
}

func TestListWhereNothingIs(t *testing.T) {
	_, err := open(t, filepath.Join(t.TempDir(), "none")).List(t.Context(), ListOptions{})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
}

func TestFilters(t *testing.T) {
	c := open(t, newV3(t, stored()...))
	for text, want := range map[string]string{
		"":                                   "app hdf5 ninja py-tool zlib",
		"hdf5":                               "hdf5",
		"hdf5@1.14":                          "hdf5",
		"hdf5@1.1":                           "",
		"hdf5@=1.14":                         "",
		"hdf5@=1.14.3":                       "hdf5",
		"@1.3.1":                             "zlib",
		"/" + world()["app"].hash():          "app",
		"zlib/" + world()["zlib"].hash()[:5]: "zlib",
		"%gcc":                               "app hdf5 ninja zlib",
		"%gcc@12 target=x86_64_v3":           "app hdf5 ninja zlib",
		"%clang":                             "",
		"arch=linux-*-x86_64*":               "app hdf5 ninja py-tool zlib",
		"arch=linux-debian12-zen4":           "",
		"os=debian12 ninja":                  "ninja",
		"hdf5@1.10:1.14":                     "hdf5",
		"hdf5@:1.14.2":                       "",
		"hdf5@1.12,1.14:":                    "hdf5",
		"@1.12:":                             "app hdf5 ninja",
		"hdf5+mpi":                           "hdf5",
		"hdf5@1.14+mpi%gcc@10:12":            "hdf5",
		"hdf5~mpi":                           "",
		"hdf5 -mpi":                          "",
		"~mpi %gcc":                          "app ninja zlib",
		"+mpi":                               "hdf5",
		"+cuda":                              "",
		"build_system=generic ninja":         "ninja",
		"build_system=cmake":                 "",
		"hdf5 api=v18,v114":                  "hdf5",
		"hdf5 api=v18,v110":                  "",
	} {
		f, err := ParseFilter(text)
		must(t, err)
		packages, err := c.List(t.Context(), ListOptions{Filters: []Filter{f}, Brief: true})
		must(t, err)
		var names []string
		for _, p := range packages {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q chooses %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"hdf5@":      `filter "hdf5@": @ is no version and no range of versions, such as 1.10:1.12`,
		"hdf5@1:2:3": `filter "hdf5@1:2:3": @1:2:3 is no version and no range of versions, such as 1.10:1.12`,
		"hdf5 ^zlib": `filter "hdf5 ^zlib": "^zlib" is no package name; dependencies can't be asked for`,
		"hdf5+":      `filter "hdf5+": + is followed by a variant`,
		"api=":       `filter "api=": api= is no value of a variant`,
		"/XYZ":       `filter "/XYZ": /XYZ is no hash: it has letters and the digits 2 to 7`,
		"arch=linux": `filter "arch=linux": arch=linux is not PLATFORM-OS-TARGET`,
		"target=[":   `filter "target=[": "[": syntax error in pattern`,
	} {
		if _, err := ParseFilter(text); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

func TestInfo(t *testing.T) {
	c := open(t, newV3(t, "app", "zlib"))
	app := world()["app"]
	info, err := c.Info(t.Context(), "/"+app.hash()[:6])
	must(t, err)
	if info.String() != app.ref() || !info.Indexed || info.Signed || len(info.Blobs) != 2 || info.Size != info.Archive.Size {
		t.Errorf("Info returns %+v", info)
	}
	if info.Problem != "" {
		t.Errorf("Info says %q of what is whole", info.Problem)
	}
	if len(info.Missing) != 1 || info.Missing[0].Name != "hdf5" {
		t.Errorf("missing dependencies are %v, want hdf5", info.Missing)
	}
	if want := "v3/manifests/spec/app/app-git.main_2.0-" + app.hash() + ".spec.manifest.json"; info.Location != want {
		t.Errorf("location is %s, want %s", info.Location, want)
	}
	zlib, err := c.Info(t.Context(), world()["zlib"].hash())
	must(t, err)
	if !zlib.Signed {
		t.Error("zlib's manifest is not said to be signed")
	}
	for _, hash := range []string{"", "/", "/aaaaaaa"} {
		if _, err := c.Info(t.Context(), hash); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: error %v, want ErrNotFound", hash, err)
		}
	}
}

func TestInfoOfAnAmbiguousHash(t *testing.T) {
	g := &catalog{refs: map[string]ref{"aab": {"aab", "one"}, "aac": {"aac", "two"}}}
	if _, err := g.find("/aa"); err == nil || err.Error() != "/aa is the start of 2 hashes, such as those of one and two" {
		t.Errorf("error is %v", err)
	}
}

func TestArchive(t *testing.T) {
	root := newV3(t, "zlib", "ninja")
	for _, address := range []string{root, webServer(t, root)} {
		body, blob, err := open(t, address).Archive(t.Context(), world()["zlib"].hash()[:8])
		must(t, err)
		data, err := io.ReadAll(body)
		must(t, err)
		must(t, body.Close())
		if want := archive(t, world()["zlib"]); !bytes.Equal(data, want) || blob.Size != int64(len(want)) {
			t.Errorf("%s: the archive has %d bytes, want %d", address, len(data), len(want))
		}
	}
	flip(t, blobPath(t, root, world()["ninja"]))
	body, _, err := open(t, root).Archive(t.Context(), world()["ninja"].hash())
	must(t, err)
	defer body.Close()
	var damage *DamageError
	if _, err := io.ReadAll(body); !errors.As(err, &damage) {
		t.Errorf("a changed archive: error %v, want a DamageError", err)
	}
	if _, _, err := open(t, root).Archive(t.Context(), "aaaaaaa"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

// Servers of objects say 403 where nothing is.
func TestWebServerThatForbidsWhatIsMissing(t *testing.T) {
	for _, root := range []string{newV3(t, "zlib"), newV2(t, "zlib"), newV2(t, "ninja")} {
		files := http.FileServerFS(os.DirFS(root))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := os.Stat(filepath.Join(root, r.URL.Path)); err != nil {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			files.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		packages, err := open(t, server.URL).List(t.Context(), ListOptions{})
		must(t, err)
		if len(packages) != 1 || packages[0].Size == 0 {
			t.Errorf("packages are %+v, want one", packages)
		}
	}
}

// What an index names and does not describe is looked up, so that the next
// index is whole.
func TestIndexWithHoles(t *testing.T) {
	root := newV3(t, "hdf5")
	record := writeBlob(t, root, "application/vnd.spack.db.v8+json", "none", toJSON(t, map[string]any{"database": map[string]any{
		"version": "8", "installs": map[string]any{world()["hdf5"].hash(): map[string]any{"spec": node(world()["hdf5"]), "in_buildcache": true}},
	}}))
	writeFile(t, filepath.Join(root, "v3/manifests/index/index.manifest.json"), toJSON(t, map[string]any{"version": 3, "data": []any{record}}))
	packages, err := open(t, root).List(t.Context(), ListOptions{})
	must(t, err)
	if len(packages) != 1 {
		t.Errorf("packages are %v", packages)
	}
	to := t.TempDir()
	copyAll(t, open(t, root), open(t, to), CopyOptions{})
	x, err := open(t, to).reader.index(t.Context())
	must(t, err)
	if len(x.nodes) != len(graph(world()["hdf5"])) {
		t.Errorf("the new index describes %d packages, want %d", len(x.nodes), len(graph(world()["hdf5"])))
	}
}

// A spliced package needs what it was built as.
func TestSplicedPackages(t *testing.T) {
	original := world()["zlib"]
	spliced := node(world()["ninja"])
	spliced["build_spec"] = map[string]any{"name": "zlib", "hash": original.hash()}
	doc, err := decodeDocument(toJSON(t, map[string]any{"spec": map[string]any{"nodes": []any{spliced, node(original), node(world()["gcc"])}}}))
	must(t, err)
	g := &catalog{nodes: map[string]*Spec{}, refs: map[string]ref{}}
	g.learn(doc)
	if order := g.closure([]*Spec{doc.root()}, func(d Dependency) bool { return d.Types[0] == builtAs }); len(order) != 2 || order[0].Name != "zlib" {
		t.Errorf("the closure is %v", order)
	}
	if len(doc.root().Dependencies) != 1 {
		t.Errorf("dependencies are %v", doc.root().Dependencies)
	}
}
