package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/ioutils"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
)

// A registry keeps the blobs that its manifests name. So as long as a
// repository has a manifest that was pushed there, it has that image's layers,
// too: one question instead of two about each layer.

// A pushedImage is a manifest that a repository got, and what it calls the
// layers.
type pushedImage struct {
	Manifest digest.Digest
	// Layers are the compressed ones by the digests of the uncompressed.
	Layers map[digest.Digest]v1.Descriptor
}

// pushedImages is how many manifests are remembered of one repository.
const pushedImages = 8

// A pushMemory has the last images that a repository got, the latest first. It
// is a file whose last line is the digest of what is above it.
type pushMemory struct {
	file   string
	images []pushedImage
}

func (b *Builder) pushMemory(repository string) *pushMemory {
	sum := sha256.Sum256([]byte(repository))
	m := &pushMemory{file: filepath.Join(b.cacheDir, fmt.Sprintf("%s-pushed-%x", blobMemoryPrefix, sum[:12]))}
	data, err := os.ReadFile(m.file)
	if err != nil || len(data) < hex.EncodedLen(sha256.Size) {
		return m
	}
	text, seal := data[:len(data)-2*sha256.Size], data[len(data)-2*sha256.Size:]
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != string(seal) || json.Unmarshal(text, &m.images) != nil {
		m.images = nil
	}
	return m
}

// remember puts an image first. A memory that cannot be written costs a push
// more questions.
func (m *pushMemory) remember(image pushedImage) {
	m.images = slices.DeleteFunc(m.images, func(i pushedImage) bool { return i.Manifest == image.Manifest })
	m.images = append([]pushedImage{image}, m.images...)
	m.images = m.images[:min(len(m.images), pushedImages)]
	text, err := json.Marshal(m.images)
	if err != nil {
		return
	}
	sum := sha256.Sum256(text)
	_ = ioutils.AtomicWriteFile(m.file, append(text, hex.EncodeToString(sum[:])...), 0o600)
}

// best is the image that has the most of some layers in a form; nil if none has
// any.
func (m *pushMemory) best(layers []digest.Digest, mediaType string) *pushedImage {
	var best *pushedImage
	most := 0
	for i := range m.images {
		n := 0
		for _, l := range layers {
			if m.images[i].Layers[l].MediaType == mediaType {
				n++
			}
		}
		if n > most {
			best, most = &m.images[i], n
		}
	}
	return best
}

// A knownReference is where an image is pushed to. What the repository is known
// to have is not asked for again.
type knownReference struct {
	types.ImageReference
	memory *pushMemory
	// layers are those of the image, the lowest first, by their digests.
	layers []digest.Digest
	// form is what they are to be in. The level of the compression is not asked
	// for: a layer that was compressed once is not compressed again.
	form layerForm
	// report is told what is not asked for.
	report io.Writer
}

// A layerForm is a compression, and the type of a layer in it.
type layerForm struct {
	mediaType string
	algorithm *compression.Algorithm
	// only says that a layer that the repository has in another form is sent
	// again. The copying library knows how to ask for that, but does not ask
	// destinations outside of it.
	only bool
}

// knownForms are by the names that PushOptions has. One is missing: a manifest
// says of layers in zstd:chunked more than their digests.
var knownForms = map[string]layerForm{
	"":     {v1.MediaTypeImageLayerGzip, &compression.Gzip, false},
	"gzip": {v1.MediaTypeImageLayerGzip, &compression.Gzip, false},
	"zstd": {v1.MediaTypeImageLayerZstd, &compression.Zstd, true},
}

// knownReference returns ref itself where nothing can be known.
func (b *Builder) knownReference(ref types.ImageReference, id string, opt PushOptions) types.ImageReference {
	named := ref.DockerReference()
	form, ok := knownForms[opt.Compression]
	if named == nil || !ok {
		return ref
	}
	img, err := b.store.Image(id)
	if err != nil {
		return ref
	}
	layers, err := b.layers(img.TopLayer)
	if err != nil {
		return ref
	}
	known := &knownReference{ImageReference: ref, form: form, memory: b.pushMemory(reference.TrimNamed(named).Name()), report: opt.Report}
	for _, l := range layers {
		known.layers = append(known.layers, l.UncompressedDigest)
	}
	return known
}

// NewImageDestination opens the repository.
func (r *knownReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	d := &knownDestination{ImageDestination: dest, ref: r}
	if image := r.memory.best(r.layers, r.form.mediaType); image != nil && r.there(ctx, sys, image.Manifest) {
		d.there = image.Layers
		fmt.Fprintf(r.report, "The repository still has the image %s: its layers are not asked for\n", image.Manifest)
	}
	return d, nil
}

// there asks whether the repository still has a manifest.
func (r *knownReference) there(ctx context.Context, sys *types.SystemContext, manifest digest.Digest) bool {
	named, err := reference.WithDigest(reference.TrimNamed(r.DockerReference()), manifest)
	if err != nil {
		return false
	}
	ref, err := docker.NewReference(named)
	if err != nil {
		return false
	}
	found, err := docker.GetDigest(ctx, sys, ref)
	return err == nil && found == manifest
}

type knownDestination struct {
	types.ImageDestination
	ref *knownReference
	// there are the layers that the repository has for certain.
	there map[digest.Digest]v1.Descriptor
}

// TryReusingBlob says what the repository has.
func (d *knownDestination) TryReusingBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache, substitute bool) (bool, types.BlobInfo, error) {
	form := d.ref.form
	found, ok := d.there[info.Digest]
	if !ok || !substitute || found.MediaType != form.mediaType {
		there, blob, err := d.ImageDestination.TryReusingBlob(ctx, info, cache, substitute)
		if there && substitute && form.only && (blob.CompressionAlgorithm == nil || blob.CompressionAlgorithm.Name() != form.algorithm.Name()) {
			return false, types.BlobInfo{}, nil
		}
		return there, blob, err
	}
	return true, types.BlobInfo{
		Digest: found.Digest, Size: found.Size, MediaType: found.MediaType,
		CompressionOperation: types.Compress, CompressionAlgorithm: form.algorithm,
	}, nil
}

// PutBlob sends a blob.
func (d *knownDestination) PutBlob(ctx context.Context, stream io.Reader, info types.BlobInfo, cache types.BlobInfoCache, isConfig bool) (_ types.BlobInfo, err error) {
	ahead := imagetransfer.NewReadAhead(stream)
	defer func() { err = errors.Join(err, ahead.Close()) }()
	return d.ImageDestination.PutBlob(ctx, ahead, info, cache, isConfig)
}

// PutManifest sends the manifest, and remembers it when the repository has it.
func (d *knownDestination) PutManifest(ctx context.Context, manifest []byte, instance *digest.Digest) error {
	if err := d.ImageDestination.PutManifest(ctx, manifest, instance); err != nil {
		return err
	}
	d.remember(manifest)
	return nil
}

func (d *knownDestination) remember(manifest []byte) {
	var m v1.Manifest
	if json.Unmarshal(manifest, &m) != nil || len(m.Layers) != len(d.ref.layers) {
		return
	}
	image := pushedImage{Manifest: digest.FromBytes(manifest), Layers: map[digest.Digest]v1.Descriptor{}}
	for i, l := range m.Layers {
		if l.MediaType == d.ref.form.mediaType {
			image.Layers[d.ref.layers[i]] = l
		}
	}
	d.ref.memory.remember(image)
}
