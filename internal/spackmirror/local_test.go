package spackmirror

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/internal/hosttest"
)

const spackCacheData = "../../pkg/spack/testdata/spack-1.3/cache"

// withPackages is a store with the packages that a real Spack has written, and
// nothing else.
func withPackages(t *testing.T) *Store {
	t.Helper()
	s := &Store{Dir: t.TempDir(), Warn: func(string) {}}
	if err := os.CopyFS(s.Path("buildcache"), os.DirFS(spackCacheData)); err != nil {
		t.Fatal(err)
	}
	return s
}

func manifestsOf(t *testing.T, s *Store) map[string]string {
	t.Helper()
	root, err := s.openFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return manifests(root)
}

func keysOf(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// The test data have no archives: what a killed copy or a bad disk leaves.
func TestDamagedPackagesAreRemovedWithOneWarning(t *testing.T) {
	s := withPackages(t)
	var warnings []string
	s.Warn = func(text string) { warnings = append(warnings, text) }
	files := manifestsOf(t, s)
	if len(files) < 4 {
		t.Fatalf("the test data have %d packages", len(files))
	}
	removed, err := s.RemoveDamaged(t.Context(), keysOf(files))
	if err != nil || len(removed) != len(files) || len(warnings) != len(files) {
		t.Fatalf("removed %v, %v, said %v; want all %d", removed, err, warnings, len(files))
	}
	if said := strings.Join(warnings, "\n"); !strings.Contains(said, "hello-lib@1.2") || !strings.Contains(said, "it was dropped") {
		t.Errorf("said: %s", said)
	}
	if left := manifestsOf(t, s); len(left) > 0 {
		t.Errorf("still named: %v", left)
	}
	if removed, err := s.RemoveDamaged(t.Context(), keysOf(files)); err != nil || len(removed) > 0 {
		t.Errorf("the second time: %v, %v", removed, err)
	}
}

// A package's build can put links to the host into the local binary cache:
// nothing is used, marked or removed behind them.
func TestPlantedManifestsAreLeftAlone(t *testing.T) {
	for _, name := range []string{"v3", "v3/manifests", "v3/manifests/spec", "blobs", "blobs/sha256"} {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			hosttest.Must(t, os.CopyFS(host, os.DirFS(spackCacheData)))
			s := withPackages(t)
			hashes := keysOf(manifestsOf(t, s))
			local := filepath.Join(s.Path("buildcache"), name)
			hosttest.Must(t, os.RemoveAll(local), os.Symlink(filepath.Join(host, name), local))
			before := hosttest.State(t, host)
			if _, err := s.Packages(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := s.RemoveDamaged(t.Context(), hashes); err != nil {
				t.Error(err)
			}
			going := map[string]bool{}
			for _, h := range hashes {
				going[h] = true
			}
			if err := s.Remove(t.Context(), nil, true); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(local); err == nil {
				t.Error("the link is still there after a prune that removes no package")
			}
			hosttest.Must(t, os.MkdirAll(filepath.Dir(local), 0o755), os.Symlink(filepath.Join(host, name), local))
			if err := s.Remove(t.Context(), going, true); err != nil {
				t.Log(err) // there may be no cache left
			}
			if after := hosttest.State(t, host); after != before {
				t.Errorf("the host has\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// A prune that keeps what was used lately takes the others away as a whole.
func TestPackagesAreRemovedByHash(t *testing.T) {
	s := withPackages(t)
	past := time.Now().Add(-48 * time.Hour)
	var used string
	for hash, file := range manifestsOf(t, s) {
		hosttest.Must(t, os.Chtimes(filepath.Join(s.Path("buildcache"), file), past, past))
		if strings.Contains(file, "hello-lib") {
			used = hash
		}
	}
	packages, err := s.Packages(t.Context())
	if err != nil || len(packages) < 4 {
		t.Fatalf("%v, %v", packages, err)
	}
	removed := map[string]bool{}
	for _, p := range packages {
		if !p.LastUse.Equal(past.Truncate(time.Nanosecond)) {
			t.Errorf("%s@%s was last used %v, want %v", p.Name, p.Version, p.LastUse, past)
		}
		removed[p.Hash] = p.Hash != used
	}
	hosttest.Must(t, s.Remove(t.Context(), removed, true))
	if left := manifestsOf(t, s); len(left) != 1 || left[used] == "" {
		t.Errorf("left: %v", left)
	}
}
