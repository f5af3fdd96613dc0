package buildcache

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

func removed(r *PruneResult) string {
	var hashes []string
	for _, p := range r.Removed {
		hashes = append(hashes, p.Hash)
	}
	return names(hashes)
}

func TestPrune(t *testing.T) {
	all := world()
	for _, test := range []struct {
		name string
		old  []string // packages made a year before
		opt  PruneOptions
		want string
		keep []string
	}{
		{"nothing", nil, PruneOptions{}, "", stored()},
		{"nothing is old", nil, PruneOptions{Before: date}, "", stored()},
		{"old ones", []string{"py-tool", "ninja"}, PruneOptions{Before: date}, "ninja py-tool", []string{"app", "hdf5", "zlib"}},
		{"old but needed", []string{"zlib", "hdf5", "ninja"}, PruneOptions{Before: date}, "ninja", []string{"app", "hdf5", "py-tool", "zlib"}},
		{"all but some", nil, PruneOptions{Keep: []string{all["hdf5"].hash()}}, "app ninja py-tool", []string{"hdf5", "zlib"}},
		{"all", nil, PruneOptions{Keep: []string{}}, "app hdf5 ninja py-tool zlib", nil},
		{"old and not kept", []string{"py-tool", "ninja"}, PruneOptions{Before: date, Keep: []string{all["ninja"].hash()}}, "py-tool", []string{"app", "hdf5", "ninja", "zlib"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newV3(t, stored()...)
			for _, name := range test.old {
				long := date.AddDate(-1, 0, 0)
				must(t, os.Chtimes(manifestPath(root, all[name]), long, long))
			}
			test.opt.Grace = -1
			before := tree(t, root)
			test.opt.DryRun = true
			dry, err := open(t, root).Prune(t.Context(), test.opt)
			must(t, err)
			if got := removed(dry); got != test.want || len(tree(t, root)) != len(before) {
				t.Errorf("a dry run removes %q, want %q, and nothing really", got, test.want)
			}
			test.opt.DryRun = false
			result, err := open(t, root).Prune(t.Context(), test.opt)
			must(t, err)
			if got := removed(result); got != test.want || result.Kept != len(test.keep) {
				t.Errorf("removed %q and kept %d, want %q and %d", got, result.Kept, test.want, len(test.keep))
			}
			if blobs := 2 * len(result.Removed); dry.Blobs != blobs || result.Blobs < blobs {
				t.Errorf("%d blobs would be and %d were removed, want %d and perhaps an index", dry.Blobs, result.Blobs, blobs)
			}
			sound(t, open(t, root), test.keep...)
			report, err := open(t, root).Verify(t.Context(), VerifyOptions{})
			must(t, err)
			for _, f := range report.Findings {
				if f.Problem == Unused {
					t.Errorf("left behind: %s", f)
				}
			}
		})
	}
}

// Somebody may be copying: what is new and not named yet stays.
func TestPruneLeavesWhatIsNew(t *testing.T) {
	root := newV3(t, "zlib")
	young, old := filepath.Join(root, "blobs/sha256/aa/aayoung"), filepath.Join(root, "blobs/sha256/bb/bbold")
	writeFile(t, young, []byte("x"))
	writeFile(t, old, []byte("xyz"))
	then := time.Now().Add(-2 * grace)
	must(t, os.Chtimes(old, then, then))
	result, err := open(t, root).Prune(t.Context(), PruneOptions{})
	must(t, err)
	if result.Blobs != 1 || result.Bytes != 3 {
		t.Errorf("removed %d blobs with %d bytes, want 1 with 3", result.Blobs, result.Bytes)
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
}

func TestPruneRegistry(t *testing.T) {
	_, address := repo(t, registry.Options{}, "cache")
	c := open(t, address)
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	result, err := c.Prune(t.Context(), PruneOptions{Keep: []string{world()["hdf5"].hash()}})
	must(t, err)
	if got := removed(result); got != "app ninja py-tool" {
		t.Errorf("removed %s", got)
	}
	sound(t, c, "hdf5", "zlib")
	// They can come back.
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	sound(t, c, stored()...)
}

// Many registries do not allow it.
func TestPruneRegistryWithoutDeletion(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	front := proxy(t, addr, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		return r.Method == http.MethodDelete
	})
	c := open(t, "oci+http://"+front+"/cache")
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	_, err := c.Prune(t.Context(), PruneOptions{Keep: []string{world()["hdf5"].hash()}})
	if err == nil || !strings.Contains(err.Error(), "405") {
		t.Errorf("error is %v, want one that says 405", err)
	}
	sound(t, c, stored()...) // the index knows them again
}
