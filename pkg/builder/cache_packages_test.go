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

// manifestsOf are the manifests of packages, by the packages' hashes.
func manifestsOf(t *testing.T, b *Builder) map[string]string {
	t.Helper()
	files, err := filepath.Glob(b.spackCache("buildcache") + "/v3/manifests/spec/*/*.spec.manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".spec.manifest.json")
		manifests[name[strings.LastIndexByte(name, '-')+1:]] = file
	}
	return manifests
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
		if err := os.Chtimes(file, past, past); err != nil {
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
	markUsed(manifestsOf(t, b)[used])
	entries, err := b.packageEntries(t.Context(), &cache.Sweep{Others: 1, Since: began})
	if err != nil || len(entries) < 4 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if kept := len(e.KeptBy) > 0; kept != (e.ID == used) {
			t.Errorf("%s is kept by %v", e.Text, e.KeptBy)
		}
	}
}
