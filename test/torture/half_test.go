//go:build integration

package torture

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The storage library records an image before its configuration and manifest:
// an image whose build was killed in between is completed by the next build,
// and so is a base from a file.
func TestHalfImages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: the files of the store belong to ids of a namespace")
	}
	s := newScene(t)
	j, st := s.job("half"), s.newStore(t, "half")
	st.must(j.args()...)
	want := j.result(t)
	halves := st.halve(t)
	if len(halves) < 3 {
		t.Fatalf("only %d images", len(halves))
	}
	st.must(j.args()...)
	j.right(t, want)
}

// halve takes the data from all images, and from the records that they are
// finished.
func (st *store) halve(t *testing.T) (ids []string) {
	t.Helper()
	dir := filepath.Join(st.dir, "overlay-images")
	file := filepath.Join(dir, "images.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("SKIPPED: not an overlay store: %v", err)
	}
	var images []map[string]any
	if err := json.Unmarshal(data, &images); err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		id, _ := img["id"].(string)
		ids = append(ids, id)
		for _, key := range []string{"big-data-names", "big-data-sizes", "big-data-digests", "names"} {
			delete(img, key)
		}
		if err := os.RemoveAll(filepath.Join(dir, id)); err != nil {
			t.Fatal(err)
		}
	}
	if data, err = json.Marshal(images); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	records, _ := filepath.Glob(filepath.Join(st.dir, "pdibuild/steps/*/*.json"))
	for _, r := range records {
		text, err := os.ReadFile(r)
		if err == nil && strings.Contains(string(text), `"image_id"`) {
			_ = os.Remove(r)
		}
	}
	return ids
}

// A base archive that is damaged is named, with the step; it is no reason to
// crash.
func TestDamagedBaseArchive(t *testing.T) {
	s := newScene(t)
	file := filepath.Join(s.dir, "base.tar")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff // in the one large layer
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	st := s.newStore(t, "damaged")
	recipe := "version: 1\nstages: [{name: only, from: 'oci-archive:" + file + "', steps: [{file: /x, content: x}]}]\n"
	if err := os.WriteFile(filepath.Join(s.dir, "damaged", "pdibuild.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	o := st.run("build", filepath.Join(s.dir, "damaged"))
	if o.code != 3 || !strings.Contains(o.stderr, `stage "only", step 1`) || strings.Contains(o.stderr, "panic") {
		t.Errorf("exit code %d, want 3 and the step\n%s", o.code, o.stderr)
	}
}

// The storage library remembers that its trial mount has failed, whatever the
// reason was. That is no reason to refuse all later builds.
func TestOldRefusalIsForgotten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: for others the driver may be another one")
	}
	s := newScene(t)
	st := s.newStore(t, "refused")
	dir := filepath.Join(st.dir, "run", "overlay")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay-false"), []byte("input/output error"), 0o600); err != nil {
		t.Fatal(err)
	}
	st.must(s.job("refused").args()...)
	if _, err := os.Stat(filepath.Join(st.dir, "overlay-layers", "layers.json")); err != nil {
		t.Errorf("the layers are not those of overlay: %v", err)
	}
}
