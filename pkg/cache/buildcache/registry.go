package buildcache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/errcode"

	client "github.com/pdidev/pdibuild/internal/registry"
)

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// A repository is a cache in a container registry.
type repository struct {
	remote *remote.Repository
	t      *client.Transport
	// chunk is how much of a blob is sent at once, 0 for all of it.
	chunk atomic.Int64
	// fallback is what becomes of chunk when all is too much.
	fallback int64
}

// newRepository reads HOST[:PORT]/NAME the way Spack does.
func newRepository(address string, plain bool, t *client.Transport, creds CredentialFunc) (*repository, error) {
	host, name, _ := strings.Cut(address, "/")
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[:i] // a tag: Spack ignores it
	}
	name = strings.ToLower(strings.Trim(name, "/"))
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, name = "docker.io", strings.ToLower(address)
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	reference := registry.Reference{Registry: host, Repository: name}
	if err := reference.ValidateRegistry(); err != nil {
		return nil, fmt.Errorf("registry %q: %w", host, err)
	}
	if err := reference.ValidateRepository(); err != nil {
		return nil, fmt.Errorf("%q is not HOST/NAME: %w", address, err)
	}
	return &repository{
		remote: &remote.Repository{
			Client:    client.NewClient(t, plain, client.Endpoint{Host: host, Repository: name, Credentials: creds}),
			Reference: reference, PlainHTTP: plain,
			ManifestMediaTypes: []string{ocispec.MediaTypeImageManifest, dockerManifest},
			MaxMetadataBytes:   maxManifest, SkipReferrersGC: true,
		},
		t: t, fallback: fallbackChunk,
	}, nil
}

// found makes ErrNotFound of the client's.
func found(err error) error {
	var response *errcode.ErrorResponse
	if errors.Is(err, errdef.ErrNotFound) || errors.As(err, &response) && response.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

func descriptor(b Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

func (r *repository) list(ctx context.Context) ([]ref, error) {
	var refs []ref
	err := r.remote.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			if hash, ok := hashIn(tag, tagSuffix); ok {
				refs = append(refs, ref{hash, tag})
			}
		}
		return nil
	})
	if err := found(err); err != nil {
		return nil, err
	}
	return refs, nil
}

func (r *repository) manifest(ctx context.Context, p ref) (*manifest, error) {
	m, err := r.fetch(ctx, p.key)
	if err != nil {
		return nil, err
	}
	if len(m.parts) < 2 {
		return nil, damaged(p.key, "it is an image without layers")
	}
	m.spec, m.archive = m.parts[0], m.parts[len(m.parts)-1]
	return m, nil
}

// fetch reads the manifest of a tag: its config and then its layers.
func (r *repository) fetch(ctx context.Context, tag string) (*manifest, error) {
	desc, body, err := r.remote.Manifests().FetchReference(ctx, tag)
	if err != nil {
		return nil, found(err)
	}
	raw, err := limited(body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	if digest.FromBytes(raw) != desc.Digest {
		return nil, damaged(tag, "its content has another digest than the registry says")
	}
	var image ocispec.Manifest
	if err := json.Unmarshal(raw, &image); err != nil {
		return nil, damaged(tag, "%v", err)
	}
	m := &manifest{raw: raw, mediaType: desc.MediaType}
	for _, d := range append([]ocispec.Descriptor{image.Config}, image.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return nil, damaged(tag, "digest %q: %v", d.Digest, err)
		}
		m.parts = append(m.parts, Blob{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType})
	}
	return m, nil
}

func (r *repository) index(ctx context.Context) (*index, error) {
	m, err := r.fetch(ctx, indexTag)
	if err != nil {
		return nil, err
	}
	if len(m.parts) < 2 {
		return nil, damaged(indexTag, "it has no layer")
	}
	body, err := r.open(ctx, m.parts[1])
	if err != nil {
		return nil, damaged(indexTag, "its %v", err)
	}
	defer body.Close()
	x, err := readIndex(verified(m.parts[1], body))
	if err != nil {
		return nil, damaged(indexTag, "%v", err)
	}
	x.blob = m.parts[1]
	return x, nil
}

func (r *repository) open(ctx context.Context, b Blob) (io.ReadCloser, error) {
	body, err := openStream(ctx, r.t, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		body, err := r.remote.Blobs().Fetch(ctx, descriptor(b))
		if err != nil || offset == 0 {
			return body, found(err)
		}
		if seeker, ok := body.(io.Seeker); ok {
			_, err = seeker.Seek(offset, io.SeekStart)
		} else {
			_, err = io.CopyN(io.Discard, body, offset)
		}
		if err != nil {
			return nil, errors.Join(err, body.Close())
		}
		return body, nil
	})
	if err != nil {
		return nil, err // not body: an interface that holds a nil pointer is not nil
	}
	return body, nil
}

func (r *repository) stat(ctx context.Context, b Blob) (int64, error) {
	desc, err := r.remote.Blobs().Resolve(ctx, b.Digest.String())
	return desc.Size, found(err)
}

func (r *repository) putWhole(ctx context.Context, b Blob, from content) error {
	return r.repeat(ctx, func(touched *atomic.Bool) error {
		body, err := from()
		if err != nil {
			return err
		}
		defer body.Close()
		return r.remote.Blobs().Push(ctx, descriptor(b), &witness{verified(b, body), touched})
	})
}

// mount takes a blob from another repository of the same registry; from is
// for registries that do not want to. It says whether from was not needed.
func (r *repository) mount(ctx context.Context, b Blob, source *repository, from content) (bool, error) {
	uploaded := false
	err := r.repeat(ctx, func(touched *atomic.Bool) error {
		return r.remote.Mount(ctx, descriptor(b), source.remote.Reference.Repository, func() (io.ReadCloser, error) {
			uploaded = true
			body, err := from()
			if err != nil {
				return nil, err
			}
			return &witness{verified(b, body), touched}, nil
		})
	})
	return !uploaded, err
}

// repeat repeats an upload that failed in the middle. What failed before is
// repeated by the transport.
func (r *repository) repeat(ctx context.Context, upload func(touched *atomic.Bool) error) error {
	for attempt := 0; ; attempt++ {
		var touched atomic.Bool
		err := upload(&touched)
		again := touched.Load() && client.IsTemporary(err) || expired(err)
		if err == nil || !again {
			return err
		}
		if err := r.t.Again(ctx, attempt, err, "sending it again"); err != nil {
			return err
		}
	}
}

// expired says that a token that was good for the start of an upload was not
// for its content.
func expired(err error) bool {
	var response *errcode.ErrorResponse
	return errors.As(err, &response) && response.StatusCode == http.StatusUnauthorized && response.Method == http.MethodPut
}

// A witness notes that a body was read. It hides what else the body can do, so
// that nobody thinks it can be read twice.
type witness struct {
	io.ReadCloser
	touched *atomic.Bool
}

// Read implements io.Reader.
func (w *witness) Read(p []byte) (int, error) {
	w.touched.Store(true)
	return w.ReadCloser.Read(p)
}

func (r *repository) commit(ctx context.Context, p ref, m *manifest) error {
	return r.push(ctx, p.key, m.mediaType, m.raw)
}

func (r *repository) push(ctx context.Context, tag, mediaType string, raw []byte) error {
	return r.remote.Manifests().PushReference(ctx, descriptor(blobOf(raw, mediaType)), bytes.NewReader(raw), tag)
}

// putIndex makes the index the only layer of an image, as Spack does it, which
// says that it is a compressed tar archive.
func (r *repository) putIndex(ctx context.Context, b Blob, from content) error {
	noConfig := []byte("{}")
	config := blobOf(noConfig, ocispec.MediaTypeImageConfig)
	b.MediaType = ocispec.MediaTypeImageLayerGzip
	parts := map[Blob]content{b: from, config: inMemory(noConfig)}
	for part, from := range parts {
		if err := r.putNew(ctx, part, from); err != nil {
			return err
		}
	}
	raw, err := encodeImage(config, []Blob{b}, "")
	if err != nil {
		return err
	}
	return r.push(ctx, indexTag, ocispec.MediaTypeImageManifest, raw)
}

// encodeImage makes a manifest. Layers are in the order of their file systems.
func encodeImage(config Blob, layers []Blob, description string) ([]byte, error) {
	image := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: descriptor(config),
	}
	for _, l := range layers {
		image.Layers = append(image.Layers, descriptor(l))
	}
	if description != "" {
		image.Annotations = map[string]string{ocispec.AnnotationDescription: description}
	}
	return json.Marshal(image)
}

// blobOf describes data that is in memory.
func blobOf(data []byte, mediaType string) Blob {
	return Blob{Digest: digest.FromBytes(data), Size: int64(len(data)), MediaType: mediaType}
}

func inMemory(data []byte) content {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// sameRegistry says whether blobs of one can be mounted in the other.
func (r *repository) sameRegistry(other *repository) bool {
	return r.remote.Reference.Registry == other.remote.Reference.Registry && r.remote.PlainHTTP == other.remote.PlainHTTP
}

// remove deletes the manifest of a tag. The registry's own collection of
// garbage removes what it named.
func (r *repository) remove(ctx context.Context, p ref) error {
	desc, err := r.remote.Manifests().Resolve(ctx, p.key)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.remote.Manifests().Delete(ctx, desc)
}
