package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/buildah"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/pkg/shortnames"
	is "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/imagetransfer"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// Push sends an image of the store to a registry and returns the digest of
// the manifest there, sha256:HEX. Destination is a registry name, docker://
// optional; empty means that of Destination. Credentials come from
// StoreOptions.Registries. A *RegistryError says what the registry refused.
func (b *Builder) Push(ctx context.Context, image, destination string, opt PushOptions) (_ string, err error) {
	defer func() { err = b.hostCause("push "+image, err) }()
	img, err := b.findImage(image)
	if err != nil {
		return "", err
	}
	if destination == "" {
		if destination, err = b.ownDestination(img, image); err != nil {
			return "", err
		}
	}
	name := strings.TrimPrefix(destination, "docker://")
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", &InputError{Subject: "push to " + destination, Err: err, Hint: "a destination looks like registry.example.org/group/name:tag"}
	}
	ref, err := alltransports.ParseImageName("docker://" + reference.TagNameOnly(named).String())
	if err != nil {
		return "", &InputError{Subject: "push to " + destination, Err: err}
	}
	opt.to = name
	d, err := b.send(ctx, img.ID, ref, opt)
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		var in *InputError
		if errors.As(err, &in) {
			return "", err
		}
		return "", imagetransfer.Error("push", name, err)
	}
	return d.String(), nil
}

// Destination is where Push sends an image without being told: its own name, if
// that is one at a registry. An *InputError says that it is not.
func (b *Builder) Destination(image string) (string, error) {
	img, err := b.findImage(image)
	if err != nil {
		return "", err
	}
	return b.ownDestination(img, image)
}

func (b *Builder) ownDestination(img *storage.Image, image string) (string, error) {
	name := b.nameOf(img, image)
	if name == "" && len(img.Names) == 1 {
		name = img.Names[0]
	}
	bad := func(reason string) error {
		return &InputError{Subject: "push " + image, Err: errors.New(reason), Hint: "give a destination, such as registry.example.org/group/name:tag", Code: fail.NoDestination}
	}
	if name == "" {
		return "", bad(fmt.Sprintf("the image has %d names", len(img.Names)))
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", bad(err.Error())
	}
	if reference.Domain(named) == "localhost" {
		return "", bad(name + " is a name of this host")
	}
	return name, nil
}

// send copies an image out of the store.
func (b *Builder) send(ctx context.Context, id string, ref types.ImageReference, opt PushOptions) (digest.Digest, error) {
	sys := b.remote.SystemContext("")
	if opt.Report == nil {
		opt.Report = io.Discard
	}
	// The library writes from several goroutines.
	opt.Report = &lockedWriter{to: opt.Report}
	registry := ref.Transport().Name() == "docker"
	if err := setCompression(sys, registry, opt); err != nil {
		return "", err
	}
	if registry {
		return b.sendToRegistry(ctx, id, ref, sys, opt)
	}
	sys.OCISharedBlobDirPath = opt.blobs
	src, err := is.Transport.NewStoreReference(b.store, nil, id)
	if err != nil {
		return "", err
	}
	co := &copy.Options{ReportWriter: opt.Report, ForceCompressionFormat: opt.Compression != "" && opt.Compression != "gzip" && opt.Compression != "none", ForceManifestMIMEType: v1.MediaTypeImageManifest}
	if ref.Transport().Name() == "docker-archive" {
		co.ForceManifestMIMEType = "" // it has a form of its own
	}
	m := imagetransfer.StartMeter(opt.Events, Event{Text: opt.to}, b.layerSizes(id))
	defer m.End()
	co.Progress, co.ProgressInterval = m.Channel(), imagetransfer.Interval
	co.DestinationCtx = sys
	return b.copyImage(ctx, b.remote.SystemContext(""), streamedReference{src, b}, ref, co)
}

// layerSizes are those of an image's layers as they are read from the store.
func (b *Builder) layerSizes(id string) map[digest.Digest]int64 {
	sizes := map[digest.Digest]int64{}
	img, err := b.store.Image(id)
	if err != nil {
		return nil // copying it will say so
	}
	layers, err := b.layers(img.TopLayer)
	if err != nil {
		return nil
	}
	for _, l := range layers {
		sizes[l.UncompressedDigest] = max(l.UncompressedSize, 0)
	}
	return sizes
}

// setCompression says how layers are compressed.
func setCompression(sys *types.SystemContext, registry bool, opt PushOptions) error {
	highest := 20
	switch opt.Compression {
	case "", "gzip":
		sys.CompressionFormat, highest = &compression.Gzip, 9
	case "zstd":
		sys.CompressionFormat = &compression.Zstd
	case "zstd:chunked":
		sys.CompressionFormat = &compression.ZstdChunked
	case "none":
		if registry {
			return &InputError{Subject: "compression none", Err: errors.New("registries get compressed layers"), Hint: "choose gzip, zstd or zstd:chunked"}
		}
		sys.OCIAcceptUncompressedLayers, highest = true, 0
	default:
		return &InputError{Subject: "compression " + opt.Compression, Err: errors.New("unknown"), Hint: "choose gzip, zstd, zstd:chunked or none"}
	}
	if opt.CompressionLevel < 0 || opt.CompressionLevel > highest {
		return &InputError{Subject: fmt.Sprintf("compression level %d", opt.CompressionLevel), Err: errors.New("out of range"), Hint: fmt.Sprintf("choose 1 to %d, or leave it out", highest)}
	}
	if opt.CompressionLevel > 0 {
		sys.CompressionLevel = &opt.CompressionLevel
	}
	return nil
}

// sendToRegistry goes through Buildah's push, which retries what may pass.
func (b *Builder) sendToRegistry(ctx context.Context, id string, ref types.ImageReference, sys *types.SystemContext, opt PushOptions) (_ digest.Digest, err error) {
	if err := b.remote.TransferContext(sys); err != nil {
		return "", err
	}
	sys, front, err := b.remote.Through(ctx, sys, ref, func(text string) { fmt.Fprintln(opt.Report, text) })
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, front.Close()) }()
	// Layers that the registry has are not read, so nobody knows yet
	// how many bytes there will be.
	m := imagetransfer.StartMeter(opt.Events, Event{Text: opt.to}, nil)
	defer m.End()
	_, d, err := buildah.Push(ctx, id, ref, buildah.PushOptions{
		Store:               b.store,
		SystemContext:       sys,
		SignaturePolicyPath: b.remote.Policy,
		ManifestType:        v1.MediaTypeImageManifest,
		ReportWriter:        opt.Report,
		Compression:         archive.Gzip,
		CompressionFormat:   sys.CompressionFormat,
		CompressionLevel:    sys.CompressionLevel,
		// A layer that is there in another form is not what was asked for;
		// knownReference looks after the other methods.
		ForceCompressionFormat: opt.Compression == "zstd:chunked",
		SourceLookupReferenceFunc: func(src types.ImageReference) (types.ImageReference, error) {
			src = streamedReference{src, b}
			if m == nil {
				return src, nil
			}
			return imagetransfer.Metered{ImageReference: src, Meter: m}, nil
		},
		DestinationLookupReferenceFunc: func(to types.ImageReference) (types.ImageReference, error) {
			return b.knownReference(to, id, opt), nil
		},
		// Single requests are repeated by the front, what streams is not.
		MaxRetries: 3,
		RetryDelay: 2 * time.Second,
	})
	return d, front.Explain(err)
}

type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

// Write passes one write on at a time.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func (b *Builder) findImage(name string) (*storage.Image, error) {
	img, err := b.localImage(name)
	if imagestore.IsDiskError(err) {
		return nil, fmt.Errorf("find image %s: %w", name, err)
	}
	if err != nil {
		return nil, &InputError{Subject: "image " + name, Err: errNotLocal, Hint: "build it first", Code: fail.ImageNotFound}
	}
	return img, nil
}

// Images lists the images of the store that have a name.
func (b *Builder) Images(ctx context.Context) (_ []Image, err error) {
	defer func() { err = b.hostCause("list images", err) }()
	stored, err := b.store.Images()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var images []Image
	for i := range stored {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(stored[i].Names) == 0 {
			continue
		}
		img := Image{ID: stored[i].ID, Digest: stored[i].Digest.String(), Names: stored[i].Names, Created: stored[i].Created.Unix()}
		layers, err := b.layers(stored[i].TopLayer)
		if err == nil {
			for _, l := range layers {
				img.Size += max(l.UncompressedSize, 0)
			}
		}
		images = append(images, img)
	}
	return images, nil
}

// Remove removes a name from its image, and with the last name the image
// itself. Layers that no other image uses go with it, and so do the results of
// the steps that made them. Given an id, it removes the image with all its names.
func (b *Builder) Remove(_ context.Context, name string) (err error) {
	defer func() { err = b.hostCause("remove "+name, err) }()
	img, err := b.findImage(name)
	if err != nil {
		return err
	}
	if full := b.nameOf(img, name); full != "" && len(img.Names) > 1 {
		if err := b.store.RemoveNames(img.ID, []string{full}); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	}
	if _, err := b.store.DeleteImage(img.ID, true); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// nameOf is the one of the image's names that a name, maybe a short one, stands
// for; "" if it is an id.
func (b *Builder) nameOf(img *storage.Image, name string) string {
	candidates, err := shortnames.ResolveLocally(b.remote.SystemContext(""), name)
	if err != nil {
		return ""
	}
	for _, c := range candidates {
		if slices.Contains(img.Names, c.String()) {
			return c.String()
		}
	}
	return ""
}

// An Image is one image of the store.
type Image struct {
	// ID is the hex SHA-256 of the configuration.
	ID     string   `json:"id"`
	Digest string   `json:"digest"`
	Names  []string `json:"names"`
	// Size in bytes of the uncompressed layers.
	Size int64 `json:"size"`
	// Created in seconds since 1970 UTC.
	Created int64 `json:"created"`
}
