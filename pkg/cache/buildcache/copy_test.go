package buildcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/test/registry"
)

// names returns the names of packages with these hashes, sorted.
func names(hashes []string) string {
	var found []string
	for _, p := range world() {
		if slices.Contains(hashes, p.hash()) {
			found = append(found, p.name)
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

func copyAll(t *testing.T, src, dst *Cache, opt CopyOptions) *CopyResult {
	t.Helper()
	result, err := Copy(t.Context(), src, dst, opt)
	must(t, err)
	return result
}

// sound fails the test unless the cache holds the packages and nothing is wrong.
func sound(t *testing.T, c *Cache, want ...string) {
	t.Helper()
	report, err := c.Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	for _, f := range report.Findings {
		if f.Problem != MissingDependency && f.Problem != Unused { // such as an index that was replaced
			t.Errorf("%s: %s", c, f)
		}
	}
	packages, err := c.List(t.Context(), ListOptions{})
	must(t, err)
	var have []string
	for _, p := range packages {
		have = append(have, p.Name)
		if data := archive(t, world()[p.Name]); p.Size != int64(len(data)) {
			t.Errorf("%s: %s has %d bytes, want %d", c, p.String(), p.Size, len(data))
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("%s holds %v, want %v", c, have, want)
	}
}

// tree returns the files of a directory with their content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, root)] = string(data)
		return err
	}))
	return files
}

func TestCopyDirectoryToDirectoryKeepsBytes(t *testing.T) {
	from, to := newV3(t, stored()...), filepath.Join(t.TempDir(), "new")
	result := copyAll(t, open(t, from), open(t, to), CopyOptions{})
	if got := names(result.Copied); got != strings.Join(stored(), " ") || len(result.Present) != 0 || result.Index == nil {
		t.Errorf("copied %s, result %+v", got, result)
	}
	sound(t, open(t, to), stored()...)
	want := tree(t, from)
	for name, content := range tree(t, to) {
		isIndex := strings.Contains(name, "/index/") || strings.Contains(content, `{"database"`)
		if want[name] != content && !isIndex {
			t.Errorf("%s differs from the source", name)
		}
	}
	info, err := os.Stat(manifestPath(to, world()["app"]))
	must(t, err)
	if !info.ModTime().Equal(date) {
		t.Errorf("the manifest's date is %s, want %s", info.ModTime(), date)
	}
	// Again: nothing is sent, the index stays.
	result = copyAll(t, open(t, from), open(t, to), CopyOptions{})
	if len(result.Copied) != 0 || len(result.Present) != len(stored()) || result.SentBlobs != 0 || result.Index != nil {
		t.Errorf("the second copy does %+v", result)
	}
}

func TestCopyTakesKeysAlong(t *testing.T) {
	from, to := newV3(t, "zlib"), t.TempDir()
	key := writeBlob(t, from, "application/pgp-keys", "none", []byte("a key"))
	const name = "v3/manifests/key/0123ABCD.key.manifest.json"
	writeFile(t, filepath.Join(from, name), toJSON(t, map[string]any{"version": 3, "data": []any{key}}))
	copyAll(t, open(t, from), open(t, to), CopyOptions{Filters: []Filter{{Name: "zlib"}}})
	if _, err := os.Stat(filepath.Join(to, name)); err == nil {
		t.Error("the key is copied with a single package")
	}
	copyAll(t, open(t, from), open(t, to), CopyOptions{})
	want := tree(t, from)
	got := tree(t, to)
	for _, path := range []string{"/" + name, "/blobs/sha256/" + sha([]byte("a key"))[:2] + "/" + sha([]byte("a key"))} {
		if got[path] != want[path] {
			t.Errorf("%s is %q, want %q", path, got[path], want[path])
		}
	}
	// Nobody takes it for garbage.
	result, err := open(t, to).Prune(t.Context(), PruneOptions{Grace: -1})
	must(t, err)
	if result.Blobs > 1 {
		t.Errorf("%d blobs were swept, want the old index at most", result.Blobs)
	}
	sound(t, open(t, to), "zlib")
}

func TestCopyChooses(t *testing.T) {
	src := open(t, newV3(t, stored()...))
	for _, test := range []struct {
		filter       string
		dependencies Dependencies
		want         string
	}{
		{"app", RuntimeDependencies, "app hdf5 zlib"},
		{"app", AllDependencies, "app hdf5 ninja zlib"},
		{"app", NoDependencies, "app"},
		{"py-tool", RuntimeDependencies, "py-tool zlib"},
		{"zlib", AllDependencies, "zlib"},
	} {
		t.Run(fmt.Sprint(test.filter, test.dependencies), func(t *testing.T) {
			f, err := ParseFilter(test.filter)
			must(t, err)
			dst := open(t, t.TempDir())
			dry := copyAll(t, src, dst, CopyOptions{Filters: []Filter{f}, Dependencies: test.dependencies, DryRun: true})
			if got := names(dry.Copied); got != test.want {
				t.Errorf("a dry run copies %s, want %s", got, test.want)
			}
			result := copyAll(t, src, dst, CopyOptions{Filters: []Filter{f}, Dependencies: test.dependencies})
			if got := names(result.Copied); got != test.want {
				t.Errorf("copied %s, want %s", got, test.want)
			}
			sound(t, dst, strings.Fields(test.want)...)
		})
	}
	_, err := Copy(t.Context(), src, open(t, t.TempDir()), CopyOptions{Filters: []Filter{{Name: "nothing"}}})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a filter that chooses nothing: %v, want ErrNotFound", err)
	}
}

func TestCopyGoesAroundDamage(t *testing.T) {
	from := newV3(t, stored()...)
	must(t, os.Remove(blobPath(t, from, world()["zlib"])))
	writeFile(t, blobPath(t, from, world()["ninja"]), []byte("something else"))
	dst := open(t, t.TempDir())
	result, err := Copy(t.Context(), open(t, from), dst, CopyOptions{})
	var damage *PackageError
	if !errors.As(err, &damage) {
		t.Errorf("error is %v, want a PackageError", err)
	}
	if got := names(result.Copied); got != "app hdf5 py-tool" {
		t.Errorf("copied %s", got)
	}
	if len(result.Failed) != 2 {
		t.Errorf("failed are %v, want zlib and ninja", result.Failed)
	}
	sound(t, dst, "app", "hdf5", "py-tool")
	// Once the source is whole again, the rest follows.
	result = copyAll(t, open(t, newV3(t, stored()...)), dst, CopyOptions{})
	if got := names(result.Copied); got != "ninja zlib" {
		t.Errorf("then copied %s", got)
	}
	sound(t, dst, stored()...)
}

func TestCopyFillsHolesOfADirectory(t *testing.T) {
	from, to := newV3(t, stored()...), newV3(t, stored()...)
	must(t, os.Remove(blobPath(t, to, world()["zlib"])))
	must(t, os.Truncate(blobPath(t, to, world()["hdf5"]), 1000))
	result := copyAll(t, open(t, from), open(t, to), CopyOptions{})
	if got := names(result.Copied); got != "hdf5 zlib" {
		t.Errorf("copied %s", got)
	}
	sound(t, open(t, to), stored()...)
}

// A registry's garbage collection may take what it should not.
func TestCopyFillsHolesOfARegistry(t *testing.T) {
	addr, address := repo(t, registry.Options{}, "cache")
	src := open(t, newV3(t, stored()...))
	copyAll(t, src, open(t, address), CopyOptions{})
	second := open(t, "oci+http://"+addr+"/second")
	copyAll(t, open(t, address), second, CopyOptions{})
	for _, way := range [][2]*Cache{{src, open(t, address)}, {open(t, address), second}} {
		r, ok := way[1].reader.(*repository)
		if !ok {
			t.Fatal("the cache is no repository")
		}
		must(t, r.remote.Blobs().Delete(t.Context(), descriptor(Blob{Digest: digest.NewDigestFromEncoded(digest.SHA256, sha(archive(t, world()["zlib"])))})))
		if result := copyAll(t, way[0], way[1], CopyOptions{}); len(result.Copied) != 0 {
			t.Errorf("copied %s without being asked to check", names(result.Copied))
		}
		result := copyAll(t, way[0], way[1], CopyOptions{Check: true})
		// All that have zlib as a layer name what is gone.
		if got := names(result.Copied); got != "app hdf5 py-tool zlib" || result.SentBlobs+result.MountedBlobs == 0 {
			t.Errorf("copied %s, %d blobs sent and %d mounted", got, result.SentBlobs, result.MountedBlobs)
		}
		sound(t, way[1], stored()...)
	}
}

func TestCopyToWhatIsReadOnly(t *testing.T) {
	src := open(t, newV3(t, "zlib"))
	for _, address := range []string{newV2(t, "zlib"), webServer(t, newV3(t, "ninja"))} {
		if _, err := Copy(t.Context(), src, open(t, address), CopyOptions{}); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v, want ErrReadOnly", address, err)
		}
	}
}

// repo is the address of a repository in a registry of the test.
func repo(t *testing.T, opt registry.Options, name string) (addr, address string) {
	t.Helper()
	addr = registry.Start(t, opt)
	return addr, "oci+http://" + addr + "/" + name
}

// All ways that packages can take, one after the other: every archive has to
// arrive unchanged.
func TestCopyBetweenAllKinds(t *testing.T) {
	addr, first := repo(t, registry.Options{}, "site/cache")
	v3 := newV3(t, stored()...)
	chain := []string{newV2(t, stored()...), filepath.Join(t.TempDir(), "a"), first, "oci+http://" + addr + "/other", filepath.Join(t.TempDir(), "b")}
	for _, start := range []string{v3, webServer(t, v3), webServer(t, chain[0])} {
		dst := open(t, filepath.Join(t.TempDir(), "x"))
		copyAll(t, open(t, start), dst, CopyOptions{})
		sound(t, dst, stored()...)
	}
	for i := range chain[1:] {
		src, dst := open(t, chain[i]), open(t, chain[i+1])
		result := copyAll(t, src, dst, CopyOptions{})
		if got := names(result.Copied); got != strings.Join(stored(), " ") {
			t.Errorf("%s to %s: copied %s", src, dst, got)
		}
		if i == 2 && (result.MountedBlobs != 10 || result.SentBlobs != 0) {
			t.Errorf("within a registry, %d blobs were mounted and %d sent, want 10 and 0", result.MountedBlobs, result.SentBlobs)
		}
		sound(t, dst, stored()...)
		again := copyAll(t, src, dst, CopyOptions{})
		if len(again.Copied) != 0 || again.Index != nil || again.SentBlobs+again.MountedBlobs != 0 {
			t.Errorf("%s to %s again: %+v", src, dst, again)
		}
	}
}

func TestCopyToRegistryMakesImages(t *testing.T) {
	_, address := repo(t, registry.Options{}, "cache")
	c := open(t, address)
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	app := world()["app"]
	info, err := c.Info(t.Context(), app.hash())
	must(t, err)
	if want := "app-git.main_2.0-" + app.hash() + ".spack"; info.Location != want {
		t.Errorf("the tag is %s, want %s", info.Location, want)
	}
	var layers []string
	for _, b := range info.Blobs[1:] {
		for _, name := range stored() {
			if b.Digest.Encoded() == sha(archive(t, world()[name])) {
				layers = append(layers, name)
			}
		}
	}
	if !slices.Equal(layers, []string{"zlib", "hdf5", "app"}) {
		t.Errorf("layers are %v, want what app runs with and app itself last", layers)
	}
	if !info.Date.Equal(date) {
		t.Errorf("date is %s, want %s", info.Date, date)
	}
}

func TestRegistryWithPassword(t *testing.T) {
	_, address := repo(t, registry.Options{User: "ann", Password: "s3cret"}, "cache")
	src := open(t, newV3(t, stored()...))
	if _, err := Copy(t.Context(), src, open(t, address), CopyOptions{}); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("without a password: error %v", err)
	}
	opt := options()
	opt.Credentials = AuthFiles(filepath.Join(t.TempDir(), "none"), authFile(t, address, "ann:s3cret"))
	dst, err := Open(t.Context(), address, opt)
	must(t, err)
	copyAll(t, src, dst, CopyOptions{})
	sound(t, dst, stored()...)
}
