package builder

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// This file is what the library asks of an image that it is to copy.

const hostArchitecture = runtime.GOARCH

var errReadOnly = errors.New("a step cannot be written to")

// Transport is that of the store: where the step really is.
func (s *stepImage) Transport() types.ImageTransport { return s.store.Transport() }

// StringWithinTransport names it for people.
func (s *stepImage) StringWithinTransport() string { return s.store.StringWithinTransport() }

// DockerReference is none: a step has no name.
func (s *stepImage) DockerReference() reference.Named { return nil }

// PolicyConfigurationIdentity is that of the store's images.
func (s *stepImage) PolicyConfigurationIdentity() string {
	return s.store.PolicyConfigurationIdentity()
}

// PolicyConfigurationNamespaces are those of the store's images.
func (s *stepImage) PolicyConfigurationNamespaces() []string {
	return s.store.PolicyConfigurationNamespaces()
}

// NewImage opens it for reading.
func (s *stepImage) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return image.FromSource(ctx, sys, s)
}

// NewImageSource opens it for reading.
func (s *stepImage) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return s, nil
}

// NewImageDestination fails.
func (s *stepImage) NewImageDestination(context.Context, *types.SystemContext) (types.ImageDestination, error) {
	return nil, errReadOnly
}

// DeleteImage fails.
func (s *stepImage) DeleteImage(context.Context, *types.SystemContext) error { return errReadOnly }

// Reference is itself.
func (s *stepImage) Reference() types.ImageReference { return s }

// Close has nothing to do.
func (s *stepImage) Close() error { return nil }

// GetManifest returns the manifest, whose layers are not compressed.
func (s *stepImage) GetManifest(context.Context, *digest.Digest) ([]byte, string, error) {
	return s.manifest, v1.MediaTypeImageManifest, nil
}

// HasThreadSafeGetBlob says that several blobs may be read at once.
func (s *stepImage) HasThreadSafeGetBlob() bool { return true }

// GetBlob returns the configuration or a layer.
func (s *stepImage) GetBlob(_ context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	return s.blob(info)
}

// GetSignatures returns none.
func (s *stepImage) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) { return nil, nil }

// LayerInfosForCopy leaves it to the manifest.
func (s *stepImage) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// layerStream returns a layer's tar stream. It goes through a temporary file,
// because the store is locked as long as a diff is open.
func (b *Builder) layerStream(id string) (_ io.ReadCloser, size int64, err error) {
	diff, err := b.readLayer(id)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	f, err := b.temporary()
	if err != nil {
		return nil, 0, err
	}
	if size, err = io.Copy(f, diff); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// temporary makes a file that is gone when it is closed, or its process ends.
func (b *Builder) temporary() (*os.File, error) {
	dir, err := b.works.begin()
	if err != nil {
		return nil, err
	}
	return atomicfile.Temporary(dir)
}
