package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// examinedKey marks a layer in the store.
const examinedKey = "pdibuild-examined"

// examineBase looks at the layers of an image that were not made in this store,
// each once. The mark of one stands for those below it: every mark makes the
// library write its list of all layers.
func (b *Builder) examineBase(top string, history []v1.History) error {
	layers, err := b.layers(top)
	if err != nil {
		return err
	}
	made := ofPdibuild(history)
	var dirs []string // as long as nothing is to be examined, of no layer
	last := ""
	for i := markedLayers(layers, examinedKey); i < len(layers); i++ {
		if own, _ := layers[i].Flags[ownFlag].(bool); own {
			continue
		}
		if dirs == nil {
			if dirs, err = chainDirs(b.store, layers); err != nil {
				return err
			}
		}
		below := ""
		if i > 0 {
			below = dirs[i-1]
		}
		if err := b.examineLayer(layers[i], len(made) == len(layers) && made[i], dirs[i], below); err != nil {
			return err
		}
		last = layers[i].ID
	}
	if last != "" {
		// In a store that cannot be written to they are looked at again.
		_ = b.store.SetLayerBigData(last, examinedKey, strings.NewReader("1"))
	}
	return nil
}

// markedLayers counts the layers, from the lowest, that a mark stands for.
func markedLayers(layers []*storage.Layer, mark string) int {
	for i, l := range slices.Backward(layers) {
		if slices.Contains(l.BigDataNames, mark) {
			return i + 1
		}
	}
	return 0
}

// ofPdibuild tells of each layer that a history speaks of whether pdibuild has
// made it.
func ofPdibuild(history []v1.History) []bool {
	var made []bool
	for _, h := range history {
		if !h.EmptyLayer {
			made = append(made, strings.HasPrefix(h.CreatedBy, historyPrefix))
		}
	}
	return made
}

// examineLayer refuses a layer whose files belong to ids that the storage
// library would cut to 32 bits, and sees to it that the root directory is what
// it is with every driver: as a step of pdibuild has left it. What other tools
// write of it is the directory in which they worked, often one that only its
// owner may enter: podman, docker and containerd leave that out, too.
func (b *Builder) examineLayer(l *storage.Layer, made bool, dir, below string) error {
	var root *tar.Header
	err := b.eachHeader(l.ID, func(hdr *tar.Header) error {
		if made && hdr.Typeflag == tar.TypeDir && path.Clean("/"+hdr.Name) == "/" {
			root = hdr
		}
		if hdr.Uid < 0 || hdr.Uid > recipe.MaxID || hdr.Gid < 0 || hdr.Gid > recipe.MaxID {
			return &InputError{
				Subject: "layer " + l.UncompressedDigest.String(),
				Err:     fmt.Errorf("%q belongs to %d:%d, and ids are numbers from 0 to %d", hdr.Name, hdr.Uid, hdr.Gid, uint64(recipe.MaxID)),
				Hint:    "take another image, or have this one made again with owners that exist",
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.setRoot(l, root, dir, below)
}

// eachHeader calls do for each entry of a layer's stream. Where the store has a
// description of the stream, no file is read.
func (b *Builder) eachHeader(id string, do func(*tar.Header) error) (err error) {
	stream, err := b.openHeaders(id)
	if err != nil {
		return fmt.Errorf("read layer %.12s: %w", id, err)
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	for r := tar.NewReader(stream); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read layer %.12s: %w", id, err)
		}
		if err := do(hdr); err != nil {
			return err
		}
	}
}

func (b *Builder) openHeaders(id string) (io.ReadCloser, error) {
	split, err := b.openSplit(b.store.GraphDriverName(), id)
	if err != nil {
		return b.readLayer(id)
	}
	return &layerStream{ReadCloser: io.NopCloser(&headerStream{entries: tarsplit.NewJSONUnpacker(split)}), under: []io.Closer{split}}, nil
}

// A headerStream is a layer's stream in which every file holds zeros.
type headerStream struct {
	entries tarsplit.Unpacker
	segment []byte
	zeros   int64
}

// Read reads the next part of the stream.
func (h *headerStream) Read(p []byte) (int, error) {
	for len(h.segment) == 0 && h.zeros == 0 {
		e, err := h.entries.Next()
		if err != nil {
			return 0, err
		}
		if e.Type == tarsplit.SegmentType {
			h.segment = e.Payload
		} else {
			h.zeros = e.Size
		}
	}
	if len(h.segment) > 0 {
		n := copy(p, h.segment)
		h.segment = h.segment[n:]
		return n, nil
	}
	n := int(min(int64(len(p)), h.zeros))
	clear(p[:n])
	h.zeros -= int64(n)
	return n, nil
}
