package inspect

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Source is an image to be read. A *builder.ImageSource is one.
type Source interface {
	// Name is what the image is called.
	Name() string
	// Manifest in the form of the OCI, and the digest of the one that is there.
	Manifest() (v1.Manifest, digest.Digest)
	Config() v1.Image
	// Layer streams the archive of a layer without compression; the lowest
	// layer is 0.
	Layer(ctx context.Context, n int) (io.ReadCloser, error)
}

// Options say what Read looks for beside the files themselves.
type Options struct {
	// Secrets are searched for in the contents of all files, also of those
	// that a later layer hides. Nil searches for nothing.
	Secrets []SecretPattern
	// Progress is told of each layer before it is read; may be nil.
	Progress func(layer, layers int)
}

// Limits of what is believed of an image.
const (
	maxName   = 16 << 10 // longer than any path of Linux
	maxKept   = 32 << 20 // the largest file that is looked into as a whole
	maxLayers = math.MaxUint16
	// maxHoles bounds the size of a file with holes, which costs an archive
	// nothing and may be said to be anything.
	maxHoles = 1 << 40
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// An Image is what Read has found.
type Image struct {
	// Name, Digest of the manifest, and ID, the digest of the configuration.
	Name, Digest, ID string
	Config           v1.Image
	Manifest         v1.Manifest
	// Layers, the lowest first.
	Layers []Layer
	// Spack and Debian packages in the order of their names.
	Spack  []*SpackPackage
	Debian []*DebianPackage
	// Roots are the hashes that the lock files in the image call roots.
	Roots map[string]bool
	// Release is what /etc/os-release says: ID, VERSION_ID, PRETTY_NAME.
	Release map[string]string
	// Found are the hits of Options.Secrets.
	Found []Finding

	table  *table
	counts []layerCount
}

// A Layer is one layer. Sizes are in bytes.
type Layer struct {
	// Number counts from 1.
	Number int `json:"number"`
	// Digest and Compressed are those of the blob, DiffID and Size those of
	// the archive in it.
	Digest     string `json:"digest"`
	DiffID     string `json:"diff_id"`
	MediaType  string `json:"media_type"`
	Compressed int64  `json:"compressed_size"`
	Size       int64  `json:"size"`
	// Content is the sum of its files' sizes.
	Content int64 `json:"content"`
	// Step made the layer, as the image's history has it.
	Step string `json:"step"`
	// By is what wrote the history: pdibuild, or "" for others.
	By string `json:"by,omitempty"`
	// Packages are the Spack packages whose prefix the layer adds.
	Packages []string `json:"packages,omitempty"`
	// Added, Changed and Removed count paths, without directories that are
	// only there again.
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	// Wasted are those of its bytes that a later layer hides.
	Wasted int64 `json:"wasted"`
}

// layerCount is what is needed to number entries by layer.
type layerCount struct{ first, end uint32 }

// Read reads all layers of an image, once. Memory depends on the number of its
// files, not on their sizes.
func Read(ctx context.Context, src Source, opt Options) (*Image, error) {
	m, d := src.Manifest()
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%s has %d layers; %d are understood", src.Name(), len(m.Layers), maxLayers)
	}
	img := &Image{
		Name: src.Name(), Digest: d.String(), ID: m.Config.Digest.String(), Config: src.Config(), Manifest: m,
		table: newTable(),
	}
	r := &reader{img: img, opt: opt, known: newContents(), buf: make([]byte, 256<<10)}
	for n := range m.Layers {
		if opt.Progress != nil {
			opt.Progress(n+1, len(m.Layers))
		}
		if err := r.layer(ctx, src, n); err != nil {
			return nil, fmt.Errorf("layer %d of %s: %w", n+1, src.Name(), err)
		}
	}
	r.known.finish(img)
	img.finish()
	return img, nil
}

// A reader reads the layers.
type reader struct {
	img   *Image
	opt   Options
	known *contents
	buf   []byte
}

// A layerRun is one layer being read.
type layerRun struct {
	*reader
	n     int
	layer *Layer
	// gone are the paths of lower layers that went with another one.
	gone map[uint32]bool
}

func (r *reader) layer(ctx context.Context, src Source, n int) (err error) {
	blob, err := src.Layer(ctx, n)
	if err != nil {
		return err
	}
	defer func() {
		if closing := blob.Close(); err == nil && closing != nil {
			err = closing
		}
	}()
	d := r.img.Manifest.Layers[n]
	r.img.Layers = append(r.img.Layers, Layer{
		Number: n + 1, Digest: d.Digest.String(), MediaType: d.MediaType, Compressed: d.Size,
	})
	run := &layerRun{reader: r, n: n, layer: &r.img.Layers[n], gone: map[uint32]bool{}}
	first := r.img.table.entries.n
	counted := &countingReader{ctx: ctx, r: blob}
	archive := tar.NewReader(counted)
	for {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := run.entry(hdr, archive); err != nil {
			return err
		}
	}
	// The rest is padding, and belongs to the size and to the digest.
	if _, err := io.CopyBuffer(io.Discard, counted, r.buf); err != nil {
		return err
	}
	run.layer.Size, run.layer.Removed = counted.n, len(run.gone)
	r.img.counts = append(r.img.counts, layerCount{first, r.img.table.entries.n})
	return nil
}

// A countingReader counts, and ends with its context.
type countingReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call of layer
	r   io.Reader
	n   int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// entry takes one entry of a layer's archive.
func (r *layerRun) entry(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if len(hdr.Name) > maxName || len(hdr.Linkname) > maxName {
		return fmt.Errorf("the archive has a name of %d bytes", max(len(hdr.Name), len(hdr.Linkname)))
	}
	name := cleanPath(hdr.Name)
	if base := path.Base(name); strings.HasPrefix(base, whiteout) {
		r.whiteout(path.Dir(name), base)
		return nil
	}
	if name == "/" {
		return nil
	}
	t := r.img.table
	e := entry{
		node: t.make(name), inode: noEntry, layer: uint16(r.n), kind: hdr.Typeflag,
		mode: uint32(hdr.Mode) & 0o7777, uid: uint32(hdr.Uid), gid: uint32(hdr.Gid),
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse, tar.TypeCont: //nolint:staticcheck // old archives have TypeRegA
		e.kind = tar.TypeReg
		if err := r.content(&e, name, hdr, content); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	case tar.TypeSymlink:
		h := sha256.New()
		h.Write([]byte(hdr.Linkname))
		shorten(h, &e)
	case tar.TypeLink:
		r.hardLink(&e, hdr.Linkname)
	}
	r.count(t.put(e, r.goes))
	return nil
}

// count notes what an entry means to its layer.
func (r *layerRun) count(e *entry) {
	switch {
	case !e.before:
		r.layer.Added++
	case e.kind != tar.TypeDir:
		r.layer.Changed++
	}
	delete(r.gone, e.node) // removed and there again is changed
	r.layer.Content += e.size
}

// hardLink makes e another name of what is at target, and of e itself if
// nothing is.
func (r *layerRun) hardLink(e *entry, target string) {
	t := r.img.table
	e.kind = tar.TypeReg
	to := t.live(t.find(cleanPath(target)))
	if to == nil || to.kind != tar.TypeReg || to.node == e.node {
		return
	}
	e.inode, e.mode, e.uid, e.gid = to.inode, to.mode, to.uid, to.gid
}

// content reads a file: its digest, and what is said in those that are known.
func (r *layerRun) content(e *entry, name string, hdr *tar.Header, content io.Reader) error {
	e.size = hdr.Size
	if sparse(hdr) {
		e.size = min(hdr.Size, maxHoles)
		return nil // reading it could take for ever
	}
	h := sha256.New()
	var keep *bytes.Buffer
	to := []io.Writer{h}
	if r.known.wants(name) && hdr.Size <= maxKept {
		keep = &bytes.Buffer{}
		to = append(to, keep)
	}
	var search *searcher
	if len(r.opt.Secrets) > 0 {
		search = newSearcher(r.opt.Secrets)
		to = append(to, search)
	}
	if _, err := io.CopyBuffer(io.MultiWriter(to...), onlyReader{content}, r.buf); err != nil {
		return err
	}
	shorten(h, e)
	if search != nil {
		for _, hit := range search.hits() {
			r.img.Found = append(r.img.Found, Finding{Path: name, Layer: r.n + 1, Pattern: hit})
		}
	}
	if keep != nil {
		r.known.take(e.node, name, keep.Bytes())
	}
	return nil
}

// onlyReader hides WriteTo, which would not use the buffer.
type onlyReader struct{ io.Reader }

func shorten(h hash.Hash, e *entry) {
	var sum [sha256.Size]byte
	copy(e.digest[:], h.Sum(sum[:0]))
}

// sparse says that a file has holes.
func sparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// goes notes that a path of a lower layer is there no more.
func (r *layerRun) goes(n uint32) { r.gone[n] = true }

// whiteout removes what lower layers have.
func (r *layerRun) whiteout(dir, base string) {
	t := r.img.table
	k := killing{layer: uint16(r.n), below: uint16(r.n), how: removed, gone: r.goes}
	if base == opaque {
		if n := t.find(dir); n != noNode {
			t.killBelow(n, k)
		}
		return
	}
	if strings.HasPrefix(base, whiteout+whiteout) {
		return // other marks of the storage driver
	}
	n := t.find(cleanPath(path.Join(dir, strings.TrimPrefix(base, whiteout))))
	if n == noNode || n == rootNode {
		return
	}
	t.killBelow(n, k)
	if e := t.live(n); e != nil && e.layer < k.below {
		t.kill(n, k.layer, removed)
		r.goes(n)
	}
}
