package builder

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/cache"
)

const spackCacheData = "../spack/testdata/spack-1.3/cache"

// withPackages is a builder with the packages that a real Spack has written, and
// nothing else.
func withPackages(t *testing.T) *Builder {
	t.Helper()
	b := &Builder{cacheDir: t.TempDir()}
	if err := os.CopyFS(b.spackCache("buildcache"), os.DirFS(spackCacheData)); err != nil {
		t.Fatal(err)
	}
	return b
}

func manifestsOf(t *testing.T, b *Builder) map[string]string {
	t.Helper()
	root, err := b.packageFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return packageManifests(root)
}

func keysOf(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// The test data have no archives: what a killed copy or a bad disk leaves.
func TestDamagedPackagesAreDroppedAndSaidOnce(t *testing.T) {
	b := withPackages(t)
	manifests := manifestsOf(t, b)
	if len(manifests) < 4 {
		t.Fatalf("the test data have %d packages", len(manifests))
	}
	dropped, err := b.soundPackages(t.Context(), keysOf(manifests))
	if err != nil || len(dropped) != len(manifests) || len(b.notices.texts) != len(manifests) {
		t.Fatalf("dropped %v, %v, said %v; want all %d", dropped, err, b.notices.texts, len(manifests))
	}
	if said := strings.Join(b.notices.texts, "\n"); !strings.Contains(said, "hello-lib@1.2") || !strings.Contains(said, "it was dropped") {
		t.Errorf("said: %s", said)
	}
	if left := manifestsOf(t, b); len(left) > 0 {
		t.Errorf("still named: %v", left)
	}
	if dropped, err := b.soundPackages(t.Context(), keysOf(manifests)); err != nil || len(dropped) > 0 {
		t.Errorf("the second time: %v, %v", dropped, err)
	}
}

// A damaged source archive is dropped with one line, and what is sound, or has
// no digest in its name, stays.
func TestDamagedSourcesAreDroppedAndSaidOnce(t *testing.T) {
	b := &Builder{cacheDir: t.TempDir()}
	dir := filepath.Join(b.spackCache("sources"), "_source-cache/archive/ab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sound := fmt.Sprintf("%x.tar.gz", sha256.Sum256([]byte("sound")))
	damaged := fmt.Sprintf("%x.tar.gz", sha256.Sum256([]byte("whole")))
	for name, text := range map[string]string{sound: "sound", damaged: "who", "patch-1": "anything"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		b.soundSources()
	}
	if said := strings.Join(b.notices.texts, "\n"); len(b.notices.texts) != 1 || !strings.Contains(said, damaged) {
		t.Errorf("said: %s", said)
	}
	left, err := filepath.Glob(dir + "/*")
	if err != nil || len(left) != 2 || strings.Contains(strings.Join(left, " "), damaged) {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestPackagesOfARunningBuildAreKept(t *testing.T) {
	b := withPackages(t)
	past := time.Now().Add(-48 * time.Hour)
	for _, file := range manifestsOf(t, b) {
		if err := os.Chtimes(filepath.Join(b.spackCache("buildcache"), file), past, past); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now().Add(-time.Hour)
	var used string
	for hash, file := range manifestsOf(t, b) {
		if strings.Contains(file, "hello-lib") {
			used = hash
		}
	}
	markUsed(filepath.Join(b.spackCache("buildcache"), manifestsOf(t, b)[used]))
	entries, err := b.packageEntries(t.Context(), &cache.Sweep{Others: 1, Since: began})
	if err != nil || len(entries) < 4 {
		t.Fatalf("%v, %v", entries, err)
	}
	going := map[string]bool{}
	for _, e := range entries {
		if kept := len(e.KeptBy) > 0; kept != (e.ID == used) {
			t.Errorf("%s is kept by %v", e.Text, e.KeptBy)
		}
		going[e.ID] = e.ID != used
	}
	if err := b.removePackages(t.Context(), going, true); err != nil {
		t.Fatal(err)
	}
	if left := manifestsOf(t, b); len(left) != 1 || left[used] == "" {
		t.Errorf("left: %v", left)
	}
}
