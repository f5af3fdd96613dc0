package buildcache

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// samples is a folder with caches that a real Spack wrote: directory-cache
// (layout 3) and oci/index.spack.layer.json. They are too large to be here.
func samples(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PDIBUILD_SPACK_SAMPLES")
	if dir == "" {
		t.Skip("SKIPPED: PDIBUILD_SPACK_SAMPLES names no folder with caches that Spack wrote")
	}
	return dir
}

// copied returns a copy of a sample that a test may change.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "cache")
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// The index that we make of Spack's cache has to be the one that Spack made.
func TestIndexOfSampleIsSpacks(t *testing.T) {
	root := copied(t, filepath.Join(samples(t), "directory-cache"))
	before := indexRecords(t, root)
	result, err := open(t, root).Index(t.Context())
	must(t, err)
	if result.Packages != 9 || len(result.Unreadable) != 0 {
		t.Errorf("Index returns %+v", result)
	}
	after := indexRecords(t, root)
	if !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("records %v, want %v", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
	for hash := range before {
		if !reflect.DeepEqual(before[hash], after[hash]) {
			t.Errorf("record of %s is\n%v\nwant\n%v", hash, after[hash], before[hash])
		}
	}
}

func indexRecords(t *testing.T, root string) map[string]any {
	t.Helper()
	l := &layout3{localFiles{root: root}}
	blob, err := l.indexBlob(t.Context())
	must(t, err)
	data, err := os.ReadFile(filepath.Join(root, v3Path(blob.Digest)))
	must(t, err)
	var db struct {
		Database struct {
			Installs map[string]any `json:"installs"`
		} `json:"database"`
	}
	must(t, json.Unmarshal(data, &db))
	return db.Database.Installs
}

// The sample has a hole: the archive of gcc-runtime was taken out.
func TestVerifySampleFindsTheHole(t *testing.T) {
	report, err := open(t, filepath.Join(samples(t), "directory-cache")).Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	t.Logf("%d packages, %d blobs, %d bytes", report.Packages, report.Blobs, report.Bytes)
	for _, f := range report.Findings {
		t.Log(f)
	}
	if len(report.Findings) != 1 || report.Findings[0].Problem != MissingBlob || report.Findings[0].Package != "gcc-runtime@12.2.0/6ax4uht" {
		t.Errorf("want just the missing archive of gcc-runtime")
	}
}

func TestRegistrySample(t *testing.T) {
	dir := filepath.Join(samples(t), "oci")
	f, err := os.Open(filepath.Join(dir, "index.spack.layer.json"))
	must(t, err)
	defer f.Close()
	x, err := readIndex(f)
	must(t, err)
	if len(x.cached) != 9 || len(x.nodes) < 15 {
		t.Errorf("the index has %d packages and describes %d", len(x.cached), len(x.nodes))
	}
	configs, err := filepath.Glob(filepath.Join(dir, "*.spack.config.json"))
	must(t, err)
	for _, name := range configs {
		data, err := os.ReadFile(name)
		must(t, err)
		if string(data) == "{}" {
			continue
		}
		doc, err := decodeDocument(data)
		must(t, err)
		meta := metaOf(data)
		if want := doc.root().Hash; tagOf(doc.root())+".config.json" != filepath.Base(name) || meta.digest() == "" || meta.date().IsZero() {
			t.Errorf("%s: hash %s, %+v", name, want, meta)
		}
	}
}

// Real archives take all ways, and come back as they were.
func TestSampleTakesAllWays(t *testing.T) {
	_, address := repo(t, registry.Options{}, "pdi")
	from := filepath.Join(samples(t), "directory-cache")
	filters := []Filter{}
	for _, name := range []string{"paraconf", "pdi", "pdiplugin-trace", "compiler-wrapper"} { // not the hole
		filters = append(filters, Filter{Name: name})
	}
	opt := CopyOptions{Filters: filters, Dependencies: NoDependencies}
	there, back := open(t, address), filepath.Join(t.TempDir(), "back")
	t.Logf("%+v", copyAll(t, open(t, from), there, opt))
	t.Logf("%+v", copyAll(t, there, open(t, back), CopyOptions{}))
	report, err := open(t, back).Verify(t.Context(), VerifyOptions{Deep: true})
	must(t, err)
	if !report.Sound() || report.Packages != 4 {
		t.Errorf("what came back: %+v", report)
	}
	for name, content := range tree(t, from) {
		if again, err := os.ReadFile(filepath.Join(back, name)); err == nil && string(again) != content && !strings.Contains(name, "manifest") {
			t.Errorf("%s came back as something else", name)
		}
	}
}
