package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// A layer has the id that podman, buildah and skopeo give to the same content on
// the same parent: see imagestore.LayerID. So a step may find that its layer is
// in the store already, made by another step or by one of those programs, and
// takes it.

// A layerContent is the content of a layer that is going to be made.
type layerContent struct {
	target
	diffID digest.Digest
	// size is that of the uncompressed stream.
	size int64
}

// id is that of the layer unless the store has something else under it.
func (c layerContent) id() string { return imagestore.LayerID(c.parent, c.diffID) }

// makeLayer takes the layer of such content if the store has it, else has put
// make it. The layer is reserved until settle, which the step's record precedes.
func (x *stepRun) makeLayer(ctx context.Context, c layerContent, put func(id string) (*storage.Layer, error)) (cache.Record, error) {
	made, err := x.reserve(ctx, c)
	if err != nil {
		return cache.Record{}, err
	}
	if !made.shared {
		l, err := put(made.id)
		if err == nil && l.UncompressedDigest != c.diffID {
			err = errors.New("its files have another digest")
		}
		if errors.Is(err, storage.ErrDuplicateID) {
			// Another program was faster.
			made.shared, err = true, x.run.b.soundLayer(made.id, c)
		}
		if err != nil {
			// The step may make the layer in another way.
			x.made = x.made[:len(x.made)-1]
			return cache.Record{}, errors.Join(fmt.Errorf("store the layer: %w", err), made.release())
		}
	}
	return cache.Record{Layer: made.id, DiffID: c.diffID.String(), Added: true}, nil
}

// reserve reserves the id of a layer. It is marked as shared if the store has the
// layer; one that cannot be used gives its id up, if it can be removed.
func (x *stepRun) reserve(ctx context.Context, c layerContent) (*work, error) {
	b := x.run.b
	made, err := b.works.reserve(ctx, c.id())
	if err != nil {
		return nil, err
	}
	x.made = append(x.made, made)
	unsound := b.soundLayer(made.id, c)
	if unsound == nil {
		made.shared = true
		return made, b.adaptLayer(made.id)
	}
	if unknownLayer(unsound) || b.removeUnsound(made.id) {
		return made, nil
	}
	made.shared = true
	made, err = b.works.announce(stringid.GenerateRandomID())
	if err != nil {
		return nil, fmt.Errorf("make the layer: %w", err)
	}
	x.made = append(x.made, made)
	return made, nil
}

// removeUnsound removes a layer of a step, unless something stands on it.
func (b *Builder) removeUnsound(id string) bool {
	l, err := b.store.Layer(id)
	if err != nil {
		return false
	}
	own, _ := l.Flags[ownFlag].(bool)
	return own && b.store.DeleteLayer(id) == nil
}

// soundLayer reports why a layer of the store cannot be taken for c.
func (b *Builder) soundLayer(id string, c layerContent) error {
	l, err := b.store.Layer(id)
	switch {
	case err != nil:
		return err
	case l.Parent != c.parent, l.UncompressedDigest != c.diffID, l.UncompressedSize != c.size && c.size >= 0:
		return errors.New("it has another content")
	case l.ReadOnly, len(l.UIDMap) > 0, len(l.GIDMap) > 0:
		return errors.New("it belongs to another store or user")
	case slices.Contains(l.BigDataNames, damagedKey):
		return errors.New("it is damaged")
	}
	return b.layerThere(id)
}

// damagedKey marks a layer whose files have another digest, and which something
// keeps.
const damagedKey = "pdibuild-damaged"

// adaptLayer sees to it that a layer which another program has made is what a
// step would have made.
func (b *Builder) adaptLayer(id string) error {
	l, err := b.store.Layer(id)
	if err != nil {
		return err
	}
	if own, _ := l.Flags[ownFlag].(bool); own || slices.Contains(l.BigDataNames, examinedKey) {
		return nil
	}
	return b.examineMade(l)
}

// examineMade is examineLayer for a layer that a step has made, in this store or
// another one.
func (b *Builder) examineMade(l *storage.Layer) error {
	dir, err := layerDir(b.store, l.ID)
	below := ""
	if err == nil && l.Parent != "" {
		below, err = layerDir(b.store, l.Parent)
	}
	if err != nil {
		return err
	}
	return b.examineLayer(l, true, dir, below)
}

// settle ends the making of a step's layers: recorded ones stay, others go.
func (x *stepRun) settle(recorded bool) error {
	var errs []error
	for _, made := range slices.Backward(x.made) {
		if recorded {
			_ = made.settle() // the next build does it
		} else {
			errs = append(errs, made.release())
		}
	}
	x.made = nil
	return errors.Join(errs...)
}
