package buildcache

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// Spack copies files into a directory under the names that they are going to
// have: killed, it leaves halves, and archives that no manifest names. All of
// that goes, however new it is, and nothing else.
func TestClear(t *testing.T) {
	root := newV3(t, stored()...)
	before := tree(t, root)
	whole, err := os.ReadFile(manifestPath(root, world()["zlib"]))
	must(t, err)
	half := filepath.Join(root, v3Specs, "gone/gone-1-"+pkg{name: "gone"}.hash()+v3Suffix)
	writeFile(t, half, whole[:len(whole)/2])
	writeFile(t, filepath.Join(root, v3Specs, "begun/begun-1-"+pkg{name: "begun"}.hash()+v3Suffix), nil)
	writeFile(t, filepath.Join(root, "blobs/sha256/aa/aahalf"), []byte("half"))
	writeFile(t, filepath.Join(root, "blobs/sha256/aa/"+unfinished+"copy"), []byte("half"))
	writeFile(t, filepath.Join(root, v3Layout), []byte(`{"sign`))
	if _, err := open(t, root).Prune(t.Context(), PruneOptions{}); !isDamage(err) {
		t.Errorf("with half a manifest, Prune ends with %v", err)
	}
	must(t, open(t, root).Clear(t.Context()))
	after := tree(t, root)
	delete(before, "/"+v3Layout)
	if got, want := slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)); !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Dir(half)); err == nil {
		t.Error("the directory of the half manifest is still there")
	}
	sound(t, open(t, root), stored()...)
	_, err = open(t, root).Prune(t.Context(), PruneOptions{})
	must(t, err)
}

// A manifest that is of another version, or of which something else is wrong, is
// not a half one: what it names is not known, and nothing is removed.
func TestClearLeavesWhatItDoesNotKnow(t *testing.T) {
	root := newV3(t, stored()...)
	writeFile(t, manifestPath(root, world()["zlib"]), []byte(`{"version": 4}`))
	before := tree(t, root)
	if err := open(t, root).Clear(t.Context()); !isDamage(err) {
		t.Errorf("it ends with %v", err)
	}
	if after := tree(t, root); !maps.Equal(before, after) {
		t.Errorf("there is %v, want %v", after, before)
	}
}

// There may be nothing yet, or nothing but half of the first archive.
func TestClearOfNearlyNothing(t *testing.T) {
	root := t.TempDir()
	must(t, open(t, root).Clear(t.Context()))
	writeFile(t, filepath.Join(root, "blobs/sha256/aa/aahalf"), []byte("half"))
	must(t, open(t, root).Clear(t.Context()))
	if left := tree(t, root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestClearNeedsADirectory(t *testing.T) {
	_, address := repo(t, registry.Options{}, "cache")
	if err := open(t, address).Clear(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a registry is cleared with %v", err)
	}
}
