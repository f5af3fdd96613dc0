package buildcache

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Push makes of an install tree what the real Spack makes of it, the real Spack
// installs that, and Pull changes files as it does.
func TestRealSpackPrefixes(t *testing.T) {
	maker := newMaker(t, "")
	maker.run("install", "pdib-app")
	hash := strings.TrimSpace(maker.run("find", "--format", "{hash}", "pdib-app"))
	theirs, ours := t.TempDir()+"/theirs", t.TempDir()+"/ours"
	maker.run("buildcache", "push", "--unsigned", "--with-build-dependencies", "--update-index", "file://"+theirs, "pdib-app")
	result := push(t, open(t, ours), maker.tree, nil)
	t.Logf("%+v", result)
	checkMade(t, open(t, ours), hash)
	for _, hash := range result.Copied {
		sameArchive(t, open(t, ours), open(t, theirs), hash)
	}
	if again := push(t, open(t, theirs), maker.tree, nil); len(again.Copied) != 0 {
		t.Errorf("Push does not see what Spack has pushed: %+v", again)
	}
	user := installFrom(t, "file://"+ours, "", hash)
	// The same cache, unpacked by us for the same place.
	out := filepath.Join(t.TempDir(), "out")
	pulled, err := open(t, theirs).Pull(t.Context(), out, PullOptions{Filters: []Filter{{Hash: hash}}, Tree: user.tree})
	must(t, err)
	if len(pulled.Prefixes) != 3 {
		t.Errorf("Pull returns %+v", pulled)
	}
	want, got := prefixFiles(t, user.tree), prefixFiles(t, out)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %q, the real Spack makes %q", name, got[name], want[name])
		}
	}
	if len(got) != len(want) || len(got) != 8 { // what pdib-app, pdib-lib and pdib-leaf have
		t.Errorf("Pull makes %d files, the real Spack %d, the packages have 8", len(got), len(want))
	}
	// A Spack that uses a tree which we have filled finds the packages.
	other := newSpack(t, "")
	_, err = open(t, ours).Pull(t.Context(), other.tree, PullOptions{})
	must(t, err)
	other.run("reindex")
	if found := other.run("find", "--format", "{name}/{hash}", "pdib-app"); !strings.Contains(found, "pdib-app/"+hash) {
		t.Errorf("after 'spack reindex' there is %q", found)
	}
}

// sameArchive compares the names in the archives and what is said about them.
func sameArchive(t *testing.T, ours, theirs *Cache, hash string) {
	t.Helper()
	gotNames, got := readArchive(t, ours, hash)
	wantNames, want := readArchive(t, theirs, hash)
	for i := range gotNames {
		gotNames[i] = strings.TrimSuffix(gotNames[i], "/")
	}
	for i := range wantNames {
		wantNames[i] = strings.TrimSuffix(wantNames[i], "/")
	}
	if !slices.Equal(gotNames, wantNames) {
		t.Errorf("%s: the archive has\n%q, the real Spack's\n%q", hash, gotNames, wantNames)
	}
	for _, info := range []*buildinfo{&got, &want} {
		slices.Sort(info.Binaries)
		slices.Sort(info.Links)
		slices.Sort(info.TextFiles)
	}
	if !maps.Equal(got.HashToPrefix, want.HashToPrefix) || !slices.Equal(got.Binaries, want.Binaries) || !slices.Equal(got.Links, want.Links) ||
		!slices.Equal(got.TextFiles, want.TextFiles) || got.BuildPath != want.BuildPath || got.SbangPath != want.SbangPath || got.RelativePrefix != want.RelativePrefix {
		t.Errorf("%s: it says\n%+v, the real Spack's\n%+v", hash, got, want)
	}
}

// prefixFiles are the contents of all files of packages, but for Spack's own
// notes.
func prefixFiles(t *testing.T, tree string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".spack" || d.Name() == ".spack-db" || d.Name() == "bin" && filepath.Dir(name) == tree) {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		rel, err := filepath.Rel(tree, name)
		must(t, err)
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			must(t, err)
			files[rel] = "→ " + target
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			must(t, err)
			st, err := d.Info()
			must(t, err)
			files[rel] = st.Mode().String()[1:4] + " " + string(data)
		}
		return nil
	}))
	return files
}

// An index alone, of a cache of any kind, is what the real Spack needs to
// decide for packages that the cache has.
func TestRealSpackConcretizesWithSavedIndex(t *testing.T) {
	maker := newMaker(t, "")
	maker.run("install", "pdib-leaf", "target=x86_64")
	hash := strings.TrimSpace(maker.run("find", "--format", "{hash}", "pdib-leaf"))
	made, saved := open(t, t.TempDir()+"/made"), t.TempDir()+"/index"
	push(t, made, maker.tree, nil)
	must(t, made.SaveIndex(t.Context(), saved))
	user := newSpack(t, "")
	writeFile(t, filepath.Join(user.dir, "user/concretizer.yaml"), []byte("concretizer: {targets: {granularity: microarchitectures}}\n"))
	if before := user.run("spec", "--format", "{hash}", "pdib-leaf"); strings.Contains(before, hash) {
		t.Skip("SKIPPED: this Spack decides for the most general target by itself, so an index makes no difference")
	}
	user.run("mirror", "add", "--unsigned", "--type", "binary", "index", "file://"+saved)
	if after := user.run("spec", "--reuse", "--format", "{hash}", "pdib-leaf"); !strings.Contains(after, hash) {
		t.Errorf("Spack decides for %q and not for the package %s of the index", after, hash)
	}
}
