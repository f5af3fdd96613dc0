package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/pkg/compression"
	is "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/transports"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/imagetransfer"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// An ImageSource is an image to be read, wherever it is. Nothing of it is
// copied into the store. It is what pkg/inspect reads.
type ImageSource struct {
	b   *Builder
	src *openedSource
	// stored are the layers of an image of the store; nil for others.
	stored []*storage.Layer
	blobs  []types.BlobInfo

	name     string
	manifest v1.Manifest
	digest   digest.Digest
	config   v1.Image
}

// OpenImage opens an image for reading. Name is that of an image of the store,
// its id, or TRANSPORT:… for any transport of containers/image, such as
// docker://REGISTRY/NAME:TAG, oci:DIR, oci-archive:FILE or docker-archive:FILE.
// Platform, os/arch[/variant], chooses among those of an index; empty is the
// host's.
func (b *Builder) OpenImage(ctx context.Context, name, platform string) (_ *ImageSource, err error) {
	defer func() { err = b.hostCause("read image "+name, err) }()
	transport, _, ok := strings.Cut(name, ":")
	if !ok || transports.Get(transport) == nil || transport == is.Transport.Name() {
		return b.openStored(ctx, strings.TrimPrefix(name, is.Transport.Name()+":"))
	}
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		return nil, &InputError{Subject: "image " + name, Err: err, Hint: "write docker://REGISTRY/NAME:TAG, oci:DIR, oci-archive:FILE or docker-archive:FILE"}
	}
	sys := b.remote.SystemContext(platform)
	if transport != "docker" { // an archive is unpacked
		if err := b.remote.TransferContext(sys); err != nil {
			return nil, err
		}
	}
	s, err := b.openReference(ctx, ref, sys)
	switch {
	case err == nil:
		s.name = name
		return s, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, imageError(name, err)
}

func (b *Builder) openStored(ctx context.Context, name string) (*ImageSource, error) {
	img, err := b.localImage(name)
	if imagestore.IsDiskError(err) {
		return nil, err
	}
	if err != nil {
		return nil, &InputError{Subject: "image " + name, Err: errNotLocal, Hint: "docker://" + name + " is the one of the registry, and oci-archive:FILE a file", Code: fail.ImageNotFound}
	}
	ref, err := is.Transport.NewStoreReference(b.store, nil, img.ID)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", name, err)
	}
	s, err := b.openReference(ctx, ref, b.remote.SystemContext(""))
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", name, err)
	}
	s.name = name
	if len(img.Names) > 0 {
		s.name = img.Names[0]
	}
	if s.stored, err = b.layers(img.TopLayer); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openReference reads everything but the layers.
func (b *Builder) openReference(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) (_ *ImageSource, err error) {
	src, err := b.openSource(ctx, ref, sys)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(src.front.Explain(err), src.Close())
		}
	}()
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
	if err != nil {
		return nil, err
	}
	s := &ImageSource{b: b, src: src, blobs: img.LayerInfos()}
	raw, mediaType, err := img.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	if s.digest, err = manifest.Digest(raw); err != nil {
		return nil, err
	}
	config, err := img.OCIConfig(ctx)
	if err != nil {
		return nil, err
	}
	s.config = *config
	c := img.ConfigInfo()
	s.manifest = v1.Manifest{
		MediaType: mediaType, Annotations: annotationsOf(raw),
		Config: v1.Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: c.Size},
	}
	for _, l := range s.blobs {
		if err := l.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("the manifest has a layer with the digest %q: %w", l.Digest, err)
		}
		s.manifest.Layers = append(s.manifest.Layers, v1.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, Annotations: l.Annotations})
	}
	return s, nil
}

// An openedSource is an image to be read, with the way to its registry.
type openedSource struct {
	types.ImageSource
	front *imagetransfer.Front
}

// openSource opens an image, wherever it is.
func (b *Builder) openSource(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) (*openedSource, error) {
	sys, front, err := b.remote.Through(ctx, sys, ref, nil)
	if err != nil {
		return nil, err
	}
	src, err := b.remote.Checked(ref).NewImageSource(ctx, sys)
	if err != nil {
		return nil, errors.Join(front.Explain(err), front.Close())
	}
	return &openedSource{src, front}, nil
}

// Close releases the image and the way to it.
func (s *openedSource) Close() error { return errors.Join(s.ImageSource.Close(), s.front.Close()) }

// annotationsOf are those of an OCI manifest; others have none.
func annotationsOf(raw []byte) map[string]string {
	m, err := manifest.OCI1FromManifest(raw)
	if err != nil {
		return nil
	}
	return m.Annotations
}

// Name is what the image is called.
func (s *ImageSource) Name() string { return s.name }

// Manifest is the image's manifest in the form of the OCI, and the digest of
// the manifest as it is. A layer's size is that of its blob, -1 if unknown.
func (s *ImageSource) Manifest() (v1.Manifest, digest.Digest) { return s.manifest, s.digest }

// Config is the image's configuration.
func (s *ImageSource) Config() v1.Image { return s.config }

// Layer streams the archive of a layer, decompressed; the lowest is 0. The
// last Read fails if the content is not what the manifest says.
func (s *ImageSource) Layer(ctx context.Context, n int) (io.ReadCloser, error) {
	if s.stored != nil {
		if n >= len(s.stored) {
			return nil, fmt.Errorf("the image has %d layers, but its manifest has more", len(s.stored))
		}
		r, err := s.b.readLayer(s.stored[n].ID)
		if err != nil {
			return nil, fmt.Errorf("read layer %d: %w", n+1, err)
		}
		return r, nil
	}
	explain := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = imageError(s.name, s.src.front.Explain(err))
		if input := (*InputError)(nil); errors.As(err, &input) {
			input.Subject = "" // its reader names the image
		}
		return s.b.hostCause("read image "+s.name, err)
	}
	blob, _, err := s.src.GetBlob(ctx, s.blobs[n], none.NoCache)
	if err != nil {
		return nil, explain(err)
	}
	verified := &verifiedReader{r: blob, verifier: s.blobs[n].Digest.Verifier(), digest: s.blobs[n].Digest}
	plain, _, err := compression.AutoDecompress(verified)
	if err != nil {
		return nil, errors.Join(explain(err), blob.Close())
	}
	return &layerReader{ReadCloser: plain, blob: blob, verified: verified, explain: explain}, nil
}

// Close releases the image.
func (s *ImageSource) Close() error { return s.src.Close() }

// A verifiedReader says at its end whether the bytes had the digest.
type verifiedReader struct {
	r        io.Reader
	verifier digest.Verifier
	digest   digest.Digest
}

// Read implements io.Reader.
func (v *verifiedReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.verifier.Write(p[:n]) // a hash takes everything
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		err = fmt.Errorf("the blob is not what its digest %s says", v.digest)
	}
	return n, err
}

// A layerReader reads a blob to its end, so that all of it is verified.
type layerReader struct {
	io.ReadCloser
	blob     io.Closer
	verified io.Reader
	explain  func(error) error
}

// Read implements io.Reader.
func (l *layerReader) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// What is behind the end of the compressed stream belongs to the blob.
		if _, rest := io.Copy(io.Discard, l.verified); rest != nil {
			err = rest
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = l.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (l *layerReader) Close() error { return errors.Join(l.ReadCloser.Close(), l.blob.Close()) }
