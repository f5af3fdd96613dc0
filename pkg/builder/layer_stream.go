package builder

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
)

// A streamedReference is an image of the store whose layers are read straight
// from their files. The library's own source writes each layer to a temporary
// file first, as long as the image is large, and reads that.
type streamedReference struct {
	types.ImageReference
	b *Builder
}

// NewImageSource opens the image.
func (r streamedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	return streamedSource{ImageSource: src, b: r.b}, nil
}

type streamedSource struct {
	types.ImageSource
	b *Builder
}

// GetBlob returns a layer, or whatever else the image has under that digest.
func (s streamedSource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if stream, size, err := s.b.openLayer(info.Digest); err == nil {
		return stream, size, nil
	}
	return s.ImageSource.GetBlob(ctx, info, cache)
}

var errNoSplit = errors.New("the store has no description of the layer's stream")

// openLayer returns the stream of a layer of which the store keeps files and
// description, as podman's and ours. No lock is held meanwhile: a layer that
// is removed, or a file that is damaged, is an error of the stream, which
// carries a checksum of each file.
func (b *Builder) openLayer(diffID digest.Digest) (_ io.ReadCloser, size int64, err error) {
	found, err := b.store.LayersByUncompressedDigest(diffID)
	if err != nil {
		return nil, 0, err
	}
	for i := range found {
		if stream, err := b.joinLayer(found[i].ID); err == nil {
			return &layerStream{ReadCloser: imagetransfer.NewReadAhead(stream), under: []io.Closer{stream}}, found[i].UncompressedSize, nil
		}
	}
	return nil, 0, errNoSplit
}

// readLayer returns the stream of one layer of the store.
func (b *Builder) readLayer(id string) (io.ReadCloser, error) {
	if stream, err := b.joinLayer(id); err == nil {
		return stream, nil
	}
	// The library makes it of the files alone, or of what only it knows.
	uncompressed := archive.Uncompressed
	return b.store.Diff("", id, &storage.DiffOptions{Compression: &uncompressed})
}

// joinLayer puts a layer's description and files together.
func (b *Builder) joinLayer(id string) (io.ReadCloser, error) {
	split, err := b.openSplit(b.store.GraphDriverName(), id)
	if err != nil {
		return nil, errNoSplit
	}
	files, err := openLayerRoot(b.store, id)
	if err != nil {
		return nil, errors.Join(err, split.Close())
	}
	stream := asm.NewOutputTarStream(files, tarsplit.NewJSONUnpacker(split))
	return &layerStream{ReadCloser: stream, under: []io.Closer{files, split}}, nil
}

// openSplit opens a layer's description in the tar-split format, where the
// storage library keeps it.
func (b *Builder) openSplit(driver, id string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(b.store.GraphRoot(), driver+"-layers", id+".tar-split.gz"))
	if err != nil {
		return nil, err
	}
	text, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &layerStream{ReadCloser: text, under: []io.Closer{f}}, nil
}

// A layerStream closes what it reads from.
type layerStream struct {
	io.ReadCloser
	under []io.Closer
}

// Close closes the stream, then what is under it.
func (s *layerStream) Close() error {
	err := s.ReadCloser.Close()
	for _, c := range s.under {
		err = errors.Join(err, c.Close())
	}
	return err
}
