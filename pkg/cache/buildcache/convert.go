package buildcache

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// toDirectory copies a package of another kind of cache into a directory: the
// archive as it is, with a spec file and a manifest around it.
func (c *copier) toDirectory(ctx context.Context, m *manifest, doc *document) error {
	data, err := specFile(ctx, c.src.reader, m)
	if err != nil {
		return err
	}
	packed, err := packSpec(data)
	if err != nil {
		return err
	}
	archive := m.archive
	archive.MediaType = archiveType
	spec := blobOf(packed, specType)
	if err := c.send(ctx, archive, c.source(ctx, m.archive)); err != nil {
		return err
	}
	if err := c.send(ctx, spec, inMemory(packed)); err != nil {
		return err
	}
	raw, err := encodeV3(v3BlobOf(archive, "gzip"), v3BlobOf(spec, "gzip"))
	if err != nil {
		return err
	}
	s := doc.root()
	return c.commit(ctx, s, ref{s.Hash, v3Key(s)}, &manifest{raw: raw, date: m.date})
}

// packSpec makes the spec file of layout 3 of another's: what is about the
// archive is left out, since the manifest says it.
func packSpec(data []byte) ([]byte, error) {
	spec, err := specOf(data)
	if err != nil {
		return nil, err
	}
	// Spack 1.x writes this version of spec files into layout 3, too.
	plain, err := json.Marshal(struct {
		Spec    json.RawMessage `json:"spec"`
		Version int             `json:"buildcache_layout_version"`
	}{spec, 2})
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write(plain); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// specOf returns the member spec of a spec file.
func specOf(data []byte) (json.RawMessage, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		var err error
		if data, err = gunzip(data, maxDocument); err != nil {
			return nil, err
		}
	}
	data, _ = withoutSignature(data)
	var file struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	return file.Spec, nil
}

// A layer is an archive as a layer of an image.
type layer struct {
	blob   Blob
	diffID digest.Digest // of the tar archive without its compression
}

type layerCall struct {
	once  sync.Once
	layer layer
	err   error
}

// An imageConfig is the configuration that Spack gives a package's image,
// which is its spec file, too.
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	RootFS       struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	Config struct {
		Env []string `json:"Env"`
	} `json:"config"`
	Spec     json.RawMessage `json:"spec"`
	Version  int             `json:"buildcache_layout_version"`
	Checksum struct {
		Algorithm digest.Algorithm `json:"hash_algorithm"`
		Hash      string           `json:"hash"`
	} `json:"binary_cache_checksum"`
	Size        int64  `json:"archive_size"`
	Timestamp   string `json:"archive_timestamp,omitempty"`
	Compression string `json:"archive_compression"`
}

// toRegistry copies a package of a directory into a registry, as an image of
// the package and what it runs with.
func (c *copier) toRegistry(ctx context.Context, m *manifest, doc *document) error {
	s := doc.root()
	own, err := c.layer(ctx, s)
	if err != nil {
		return err
	}
	local := &catalog{nodes: map[string]*Spec{}}
	local.learn(doc)
	var layers []layer
	for _, dep := range local.closure([]*Spec{s}, Dependency.Runtime) {
		if dep == s || dep.External != "" {
			continue
		}
		l, err := c.layer(ctx, dep)
		if err != nil && !isDamage(err) {
			return err
		}
		if err == nil { // without it, the image does not run, but Spack can install the package
			layers = append(layers, l)
		}
	}
	layers = append(layers, own) // Spack takes the last one for the package
	return c.commitImage(ctx, m, doc, layers)
}

func (c *copier) commitImage(ctx context.Context, m *manifest, doc *document, layers []layer) error {
	data, err := specFile(ctx, c.src.reader, m)
	if err != nil {
		return err
	}
	own := layers[len(layers)-1]
	conf := imageConfig{Architecture: architecture(doc.root().Target), OS: "linux", Version: 2, Size: own.blob.Size, Compression: "gzip"}
	if conf.Spec, err = specOf(data); err != nil {
		return err
	}
	conf.Config.Env = []string{"PATH=/bin:/usr/bin"}
	conf.RootFS.Type = "layers"
	conf.Checksum.Algorithm, conf.Checksum.Hash = own.blob.Digest.Algorithm(), own.blob.Digest.Encoded()
	if !m.date.IsZero() {
		conf.Timestamp = m.date.Format(time.RFC3339Nano)
	}
	var blobs []Blob
	for _, l := range layers {
		conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, l.diffID)
		blobs = append(blobs, l.blob)
	}
	raw, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	config := blobOf(raw, ocispec.MediaTypeImageConfig)
	if err := c.send(ctx, config, inMemory(raw)); err != nil {
		return err
	}
	s := doc.root()
	image, err := encodeImage(config, blobs, s.Name+"@"+s.Version+" arch="+s.Arch())
	if err != nil {
		return err
	}
	return c.commit(ctx, s, ref{s.Hash, tagOf(s)}, &manifest{raw: image, mediaType: ocispec.MediaTypeImageManifest})
}

// layer brings the archive of a package to the registry, once.
func (c *copier) layer(ctx context.Context, s *Spec) (layer, error) {
	c.mu.Lock()
	call := c.layers[s.Hash]
	if call == nil {
		call = &layerCall{}
		c.layers[s.Hash] = call
	}
	c.mu.Unlock()
	call.once.Do(func() { call.layer, call.err = c.layerOnce(ctx, s) })
	return call.layer, call.err
}

func (c *copier) layerOnce(ctx context.Context, s *Spec) (layer, error) {
	if r, ok := c.to.refs[s.Hash]; ok {
		l, err := imageLayer(ctx, c.dst.reader, r)
		if err == nil && c.opt.Check {
			_, err = c.w.stat(ctx, l.blob)
		}
		if err == nil || !isDamage(err) {
			return l, err
		}
	}
	r, ok := c.from.refs[s.Hash]
	if !ok {
		return layer{}, fmt.Errorf("%s: %w", s, ErrNotFound)
	}
	m, err := c.src.reader.manifest(ctx, r)
	if err != nil {
		return layer{}, err
	}
	l := layer{blob: m.archive}
	l.blob.MediaType = ocispec.MediaTypeImageLayerGzip
	l.blob.path = ""
	err = c.send(ctx, l.blob, func() (io.ReadCloser, error) {
		body, err := c.source(ctx, m.archive)()
		if err != nil {
			return nil, err
		}
		return unpackAlong(body, &l.diffID), nil
	})
	if err != nil || l.diffID != "" {
		return l, err
	}
	// The registry had it, so nobody read it.
	body, err := c.source(ctx, m.archive)()
	if err != nil {
		return l, err
	}
	var along io.ReadCloser = unpackAlong(verified(m.archive, body), &l.diffID)
	defer along.Close()
	_, err = io.Copy(io.Discard, along)
	return l, err
}

// imageLayer finds the layer of a package that is in a registry already.
func imageLayer(ctx context.Context, r reader, p ref) (layer, error) {
	m, err := r.manifest(ctx, p)
	if err != nil {
		return layer{}, err
	}
	data, err := specFile(ctx, r, m)
	if err != nil {
		return layer{}, err
	}
	var conf imageConfig
	if err := json.Unmarshal(data, &conf); err != nil || len(conf.RootFS.DiffIDs) == 0 {
		return layer{}, damaged(p.key, "its configuration names no layers")
	}
	return layer{m.archive, conf.RootFS.DiffIDs[len(conf.RootFS.DiffIDs)-1]}, nil
}

// An unpacker computes the digest of what an archive unpacks to while somebody
// else reads it.
type unpacker struct {
	io.ReadCloser
	pipe   *io.PipeWriter
	result chan error
	plain  digest.Digester
	diffID *digest.Digest
}

func unpackAlong(body io.ReadCloser, diffID *digest.Digest) *unpacker {
	r, w := io.Pipe()
	u := &unpacker{ReadCloser: body, pipe: w, result: make(chan error, 1), plain: digest.Canonical.Digester(), diffID: diffID}
	go func() {
		zr, err := gzip.NewReader(r)
		if err == nil {
			_, err = io.Copy(u.plain.Hash(), zr)
		}
		r.CloseWithError(err) // whatever the archive is, its reader goes on
		u.result <- err
	}()
	return u
}

// Read implements io.Reader. At the end it stores the digest.
func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	_, _ = u.pipe.Write(p[:n]) // an archive that can't be unpacked is reported at its end
	if err == io.EOF {
		_ = u.pipe.Close() // which never fails
		if unpack := <-u.result; unpack != nil {
			return n, damaged("archive", "it can't be unpacked: %v", unpack)
		}
		u.result <- nil // for who reads again after the end
		*u.diffID = u.plain.Digest()
	}
	return n, err
}

// Close implements io.Closer.
func (u *unpacker) Close() error {
	u.pipe.CloseWithError(io.ErrUnexpectedEOF)
	return u.ReadCloser.Close()
}

// architecture is Go's name, as images have it, for a target of Spack's.
func architecture(target string) string {
	families := []struct{ architecture, prefixes string }{
		{"arm64", "aarch64 arm cortex neoverse a64fx thunderx m1 m2 m3 m4 ampere"},
		{"ppc64le", "ppc64le power8le power9le power10le"},
		{"ppc64", "ppc64 power"},
		{"riscv64", "riscv64 u74mc"},
		{"s390x", "s390x"},
	}
	for _, family := range families {
		for _, prefix := range strings.Fields(family.prefixes) {
			if strings.HasPrefix(target, prefix) {
				return family.architecture
			}
		}
	}
	return "amd64"
}
