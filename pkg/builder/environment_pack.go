package builder

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// A layer of packages that an earlier environment had, and that is still in the
// store, is made once more by hard links: no file of it is read. See envlayers.

// packFlag is the flag in the store with the key of a layer of packages.
const packFlag = "pdibuild-pack"

// packLayers finds such layers by their keys.
func (b *Builder) packLayers() (map[string]*storage.Layer, error) {
	if !b.stages {
		return nil, nil
	}
	layers, err := b.store.Layers()
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	found := map[string]*storage.Layer{}
	for i := range layers {
		if key, ok := layers[i].Flags[packFlag].(string); ok && layers[i].UncompressedDigest != "" {
			found[key] = &layers[i]
		}
	}
	return found, nil
}

// reuse makes a layer once more on top of another one.
func (x *stepRun) reuse(ctx context.Context, to target, old *storage.Layer) (cache.Record, error) {
	b := x.run.b
	rec, err := x.makeLayer(ctx, layerContent{to, old.UncompressedDigest, old.UncompressedSize}, func(id string) (*storage.Layer, error) {
		return b.relinkLayer(to, id, old)
	})
	if err != nil || !b.ids.single {
		return rec, err
	}
	owners, err := layerOwners(b.store, old)
	if err != nil {
		return rec, err
	}
	return rec, noteOwners(b.store, rec.Layer, owners)
}

func (b *Builder) relinkLayer(to target, id string, old *storage.Layer) (*storage.Layer, error) {
	if err := b.layerThere(old.ID); err != nil {
		return nil, err
	}
	dir, err := layerDir(b.store, old.ID)
	if err != nil {
		return nil, err
	}
	split, err := b.openSplit(b.store.GraphDriverName(), old.ID)
	if err != nil {
		return nil, err
	}
	defer split.Close()
	out, err := b.prepareLayer(to, &oldLayer{layer: old, dir: dir, split: split})
	if err != nil {
		return nil, err
	}
	return b.applyLayer(to, id, out)
}

// An oldLayer gives a layer of the store to the overlay driver once more; see
// graphdriver.Differ.
type oldLayer struct {
	layer *storage.Layer
	dir   string
	split io.Reader
}

// ApplyDiff makes the files of the layer in dest.
func (d *oldLayer) ApplyDiff(dest string, _ *archive.TarOptions, opt *graphdriver.DifferOptions) (out graphdriver.DriverWithDifferOutput, err error) {
	split, err := atomicfile.Temporary(opt.StagingDirectory)
	if err != nil {
		return out, err
	}
	if _, err = io.Copy(split, d.split); err == nil {
		err = d.relink(dest)
	}
	if err != nil {
		return out, errors.Join(err, split.Close())
	}
	return graphdriver.DriverWithDifferOutput{
		Differ: d, Size: d.layer.UncompressedSize, UncompressedDigest: d.layer.UncompressedDigest,
		UIDs: d.layer.UIDs, GIDs: d.layer.GIDs, TarSplit: split,
	}, nil
}

func (d *oldLayer) relink(dest string) error {
	from, err := rootfs.Open(d.dir)
	if err != nil {
		return err
	}
	defer from.Close()
	return layer.Relink(from, dest)
}

// empty is never so: nothing makes no layer.
func (d *oldLayer) empty() bool { return false }

// Close has nothing to do.
func (d *oldLayer) Close() error { return nil }
