package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/image/v5/types"
)

// What a registry has for a step is used or refused, whatever it is.
func FuzzRemoteStep(f *testing.F) {
	key := strings.Repeat("a", 64)
	note, err := json.Marshal(stepNote{Key: key, Text: "run make", Notes: []string{"one"}})
	if err != nil {
		f.Fatal(err)
	}
	layer := digest.FromString("layer")
	config, err := json.Marshal(v1.Image{
		Config: v1.ImageConfig{Labels: map[string]string{stepLabel: string(note)}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer}},
	})
	if err != nil {
		f.Fatal(err)
	}
	manifest, err := json.Marshal(v1.Manifest{
		Config: v1.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers: []v1.Descriptor{{Digest: layer, Size: 1}},
	})
	if err != nil {
		f.Fatal(err)
	}
	whole := &remoteStep{key: key, src: &oneBlob{blob: config}}
	if err := whole.read(f.Context(), manifest); err != nil {
		f.Fatalf("a good step: %v", err)
	}
	f.Add(manifest, config)
	f.Add([]byte(`{"config":{"digest":"sha256:1","size":-1},"layers":[{}]}`), []byte("null"))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		// Its configuration is the one that the manifest names, whatever that says.
		var m map[string]any
		if json.Unmarshal(manifest, &m) == nil && m != nil {
			m["config"] = map[string]any{"digest": digest.FromBytes(config), "size": len(config)}
			if named, err := json.Marshal(m); err == nil {
				manifest = named
			}
		}
		s := &remoteStep{key: key, src: &oneBlob{blob: config}}
		if s.read(context.Background(), manifest) != nil {
			return
		}
		if n := len(s.diffs); s.note.Key != key || len(s.blobs) != n || len(s.note.Notes) != n {
			t.Errorf("a step of %d layers has %d blobs and %d notes", n, len(s.blobs), len(s.note.Notes))
		}
	})
}

// oneBlob is an image of which there is nothing but the configuration.
type oneBlob struct {
	types.ImageSource
	blob []byte
}

func (o *oneBlob) GetBlob(context.Context, types.BlobInfo, types.BlobInfoCache) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(o.blob)), int64(len(o.blob)), nil
}

// The description of a layer that a damaged disk or another program has left
// gives a stream or an error.
func FuzzTarSplit(f *testing.F) {
	f.Add([]byte(`{"type":2,"payload":"aGVhZGVy","position":0}`+"\n"+`{"type":1,"name":"a","size":3,"payload":"AAAAAAAAAAA=","position":1}`+"\n"), []byte("abc"))
	f.Add([]byte(`{"type":1,"name":"../../etc/passwd","size":-1,"position":0}`), []byte(nil))
	f.Fuzz(func(t *testing.T, split, content []byte) {
		getter := tarsplit.NewBufferFileGetPutter()
		for _, name := range []string{"a", "b"} {
			if _, _, err := getter.Put(name, bytes.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
		stream := asm.NewOutputTarStream(getter, tarsplit.NewJSONUnpacker(bytes.NewReader(split)))
		n, err := io.Copy(io.Discard, stream)
		if most := int64(len(split) * (1 + len(content))); err == nil && n > most {
			t.Errorf("%d bytes of %d", n, most)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	})
}
