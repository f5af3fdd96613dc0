package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// The files of Spack in an install tree and in each of its prefixes.
const (
	treeDatabase = ".spack-db/index.json"
	prefixSpec   = ".spack/spec.json"
	buildInfo    = ".spack/binary_distribution"
)

// An installTree is a Spack install tree, seen as a cache that nothing can be written
// to: its packages become archives when they are asked for. It may be somewhere
// else than Spack had it, such as in an image's root.
type installTree struct {
	// root is where it is; recorded is how Spack calls it, which is what
	// the files in it say.
	root, recorded string
	// prefixes are those of all packages that the database knows, by hash,
	// also those in other trees, as Spack calls them.
	prefixes map[string]string
	packages map[string]*installed
	nodes    map[string]*Spec
	// temporary is a directory for archives on their way.
	temporary string
}

// An installed package becomes an archive once, which is removed when it was
// read, and made again if it is asked for again: it is the same then.
type installed struct {
	spec   *Spec
	prefix string // where it is
	doc    []byte // its spec file, packed
	date   time.Time

	mu       sync.Mutex
	manifest *manifest
	file     *os.File // the archive, which has no name; nil if it is not there
}

// openTree reads the database of an install tree. If prefixes are given, only
// they are packages of this cache.
func openTree(root string, prefixes []string) (*installTree, error) {
	root, err := realPath(root)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(root, treeDatabase))
	if err != nil {
		return nil, fmt.Errorf("%s is no install tree of Spack: %w", root, err)
	}
	defer f.Close()
	db, err := spack.ReadDatabase(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	t := &installTree{root: root, prefixes: map[string]string{}, packages: map[string]*installed{}, nodes: map[string]*Spec{}}
	wanted := map[string]bool{}
	for _, p := range prefixes {
		real, err := realPath(p)
		if err != nil {
			return nil, err
		}
		wanted[real] = true
	}
	for hash, in := range db.Installs {
		if in.Prefix == "" || in.Spec.External != nil {
			continue
		}
		t.prefixes[hash] = in.Prefix
		here, ok := t.locate(in.Prefix)
		if !ok || !in.Installed || len(prefixes) > 0 && !wanted[here] {
			continue
		}
		if err := t.add(here, hash); err != nil {
			return nil, err
		}
		delete(wanted, here)
	}
	for prefix := range wanted {
		return nil, fmt.Errorf("%s is not installed in the tree %s: its database does not know it", prefix, root)
	}
	return t, nil
}

// realPath is a path without symbolic links.
func realPath(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(name)
}

// locate finds the prefix that Spack calls recorded. The first one tells how
// Spack calls the tree.
func (t *installTree) locate(recorded string) (string, bool) {
	if t.recorded == "" {
		for rel := recorded; rel != "/" && rel != "."; {
			rel = rel[strings.IndexByte(rel[1:], '/')+1:]
			if st, err := os.Stat(filepath.Join(t.root, rel, ".spack")); err == nil && st.IsDir() {
				t.recorded = strings.TrimSuffix(recorded, rel)
				break
			}
			if strings.Count(rel, "/") < 2 {
				break
			}
		}
	}
	rel, ok := strings.CutPrefix(recorded, t.recorded+"/")
	if t.recorded == "" || !ok {
		return "", false
	}
	return filepath.Join(t.root, rel), true
}

// add makes an installed package one of this cache.
func (t *installTree) add(prefix, hash string) error {
	name := filepath.Join(prefix, prefixSpec)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Spack forgot to take it off its list
	}
	if err != nil {
		return err
	}
	doc, err := decodeDocument(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if doc.root().Hash != hash {
		return damaged(name, "it is of %s, not of /%s", doc.root(), hash)
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	packed, err := packSpec(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, s := range doc.nodes {
		if t.nodes[s.Hash] == nil {
			t.nodes[s.Hash] = s
		}
	}
	t.packages[hash] = &installed{spec: doc.root(), prefix: prefix, doc: packed, date: st.ModTime().UTC()}
	return nil
}

// treeOf finds the install tree of a prefix.
func treeOf(prefix string) (string, error) {
	if _, err := os.Stat(filepath.Join(prefix, prefixSpec)); err != nil {
		return "", fmt.Errorf("%s is no install prefix of Spack: %w", prefix, err)
	}
	for dir := filepath.Dir(prefix); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, treeDatabase)); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no directory above %s is an install tree: none has %s", prefix, treeDatabase)
}

func (t *installTree) list(context.Context) ([]ref, error) {
	var refs []ref
	for hash, p := range t.packages {
		refs = append(refs, ref{hash, v3Key(p.spec)})
	}
	return refs, nil
}

// index knows all packages, so that Copy makes archives only of what it sends.
func (t *installTree) index(context.Context) (*index, error) {
	x := &index{nodes: t.nodes, cached: map[string]bool{}}
	for hash := range t.packages {
		x.cached[hash] = true
	}
	return x, nil
}

func (t *installTree) manifest(ctx context.Context, r ref) (*manifest, error) {
	p := t.packages[r.hash]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.manifest != nil {
		return p.manifest, nil
	}
	archive, err := t.pack(ctx, p)
	if err != nil {
		return nil, err
	}
	spec := blobOf(p.doc, specType)
	m := &manifest{archive: archive, spec: spec, parts: []Blob{archive, spec}, date: p.date}
	m.raw, err = encodeV3(v3BlobOf(archive, "gzip"), v3BlobOf(spec, "gzip"))
	if err == nil {
		p.manifest = m
	}
	return m, err
}

// pack makes the archive of a package.
func (t *installTree) pack(ctx context.Context, p *installed) (Blob, error) {
	f, err := atomicfile.Temporary(t.temporary)
	if err != nil {
		return Blob{}, err
	}
	hash, count := digest.Canonical.Digester(), &counter{}
	if err := t.writeArchive(ctx, io.MultiWriter(f, hash.Hash(), count), p); err != nil {
		return Blob{}, fmt.Errorf("pack %s: %w", p.prefix, errors.Join(err, f.Close()))
	}
	p.file = f
	return Blob{Digest: hash.Digest(), Size: count.n, MediaType: archiveType}, nil
}

func (t *installTree) open(ctx context.Context, b Blob) (io.ReadCloser, error) {
	for _, p := range t.packages {
		if body, err := t.openOf(ctx, p, b); body != nil || err != nil {
			return body, err
		}
	}
	return nil, ErrNotFound
}

// openOf returns nil if the blob is not of this package.
func (t *installTree) openOf(ctx context.Context, p *installed, b Blob) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.manifest == nil:
		return nil, nil
	case p.manifest.spec.Digest == b.Digest:
		return inMemory(p.doc)()
	case p.manifest.archive.Digest != b.Digest:
		return nil, nil
	}
	if p.file == nil {
		again, err := t.pack(ctx, p)
		if err != nil {
			return nil, err
		}
		if again.Digest != b.Digest {
			return nil, damaged(p.prefix, "it has changed while it was being read")
		}
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", p.file.Fd())) // from its start
	if err != nil {
		return nil, err
	}
	return &onceFile{localFile: &localFile{f, ctx}, used: p.drop}, nil
}

// drop drops the archive.
func (p *installed) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		_ = p.file.Close()
		p.file = nil
	}
}

// close drops all archives.
func (t *installTree) close() {
	for _, p := range t.packages {
		p.drop()
	}
}

// A onceFile is done with when it was read to its end.
type onceFile struct {
	*localFile
	whole bool
	used  func()
}

// Read implements io.Reader.
func (f *onceFile) Read(p []byte) (int, error) {
	n, err := f.localFile.Read(p)
	f.whole = f.whole || errors.Is(err, io.EOF)
	return n, err
}

// WriteTo hides the one of localFile, which would not see the end.
func (f *onceFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f})
}

// Close implements io.Closer.
func (f *onceFile) Close() error {
	err := f.localFile.Close()
	if f.whole {
		f.whole = false
		f.used()
	}
	return err
}
