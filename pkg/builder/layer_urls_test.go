package builder

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// An image from somebody else does not make this host ask servers that only this
// host can reach.
func TestLayersAreNotFetchedFromElsewhere(t *testing.T) {
	var asked atomic.Int64
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	}))
	t.Cleanup(metadata.Close)
	host := metadata.Listener.Addr().String()
	urls := []string{metadata.URL + "/latest/meta-data"}
	layers := func(m *v1.Manifest) { m.Layers[0].URLs = urls }
	for name, source := range map[string]string{
		"a layer":                     "oci:" + writeLayout(t, layers),
		"the configuration":           "oci:" + writeLayout(t, func(m *v1.Manifest) { m.Config.URLs = urls }),
		"a layer of an index":         "oci:" + indexed(t, writeLayout(t, layers), 1),
		"a layer of an index's index": "oci:" + indexed(t, writeLayout(t, layers), 2),
		"a layer in a registry":       inRegistry(t, writeLayout(t, layers)),
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			b := loggedIn(t, "", "")
			_, openErr := b.OpenImage(t.Context(), source, "")
			for what, err := range map[string]error{"copy": transfer(t, b, source, "dir:"+t.TempDir()), "open": openErr} {
				var in *InputError
				code, _ := fail.CodeOf(err)
				if !errors.As(err, &in) || !strings.Contains(err.Error(), host) || code != fail.LayerAddresses || strings.HasPrefix(name, "a layer") && !strings.Contains(err.Error(), "layer 1 (sha256:") {
					t.Errorf("%s: error is %v", what, err)
				}
			}
			if n := asked.Load(); n > 0 {
				t.Errorf("the server was asked %d times", n)
			}
			b.remote.AllowLayerURLs = true
			_ = transfer(t, b, source, "dir:"+t.TempDir())
			if asked.Load() == 0 && !strings.HasSuffix(name, "index's index") { // the library does not follow those
				t.Error("with leave, the server is not asked")
			}
		})
	}
}

// A manifest names addresses for nothing else: an image without any is opened.
func TestOrdinaryImagesAreOpened(t *testing.T) {
	b := loggedIn(t, "", "")
	for _, source := range []string{writeLayout(t, nil), indexed(t, writeLayout(t, nil), 1)} {
		img, err := b.OpenImage(t.Context(), "oci:"+source, "")
		if err != nil {
			t.Error(err)
			continue
		}
		_ = img.Close()
	}
}

// indexed puts an image in the OCI layout below so many indexes.
func indexed(t *testing.T, dir string, depth int) string {
	t.Helper()
	var top v1.Index
	read := func() {
		data, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err == nil {
			err = json.Unmarshal(data, &top)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range depth {
		read()
		top.MediaType = v1.MediaTypeImageIndex
		top.Manifests[0].Platform = &v1.Platform{OS: "linux", Architecture: hostArchitecture}
		inner, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(inner)
		writeTestFile(t, filepath.Join(dir, "blobs/sha256", d.Encoded()), inner)
		outer := v1.Index{Manifests: []v1.Descriptor{{MediaType: v1.MediaTypeImageIndex, Digest: d, Size: int64(len(inner))}}}
		outer.SchemaVersion = 2
		data, err := json.Marshal(outer)
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(dir, "index.json"), data)
	}
	return dir
}

// inRegistry serves an image in the OCI layout as a registry does. The real one
// does not take such images.
func inRegistry(t *testing.T, dir string) string {
	t.Helper()
	var index v1.Index
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		switch {
		case r.URL.Path == "/v2/":
			return
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
			name = index.Manifests[0].Digest.String()
		}
		http.ServeFile(w, r, filepath.Join(dir, "blobs/sha256", strings.TrimPrefix(name, "sha256:")))
	}))
	t.Cleanup(server.Close)
	return "docker://" + server.Listener.Addr().String() + "/a/b:1"
}
