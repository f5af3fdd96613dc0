package buildcache

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
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
	l := &layout3{localFiles{root}}
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
