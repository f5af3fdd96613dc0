package buildcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Package is a package in a cache.
type Package struct {
	Spec
	// Size is that of the compressed archive.
	Size int64 `json:"size"`
	// Date is when the package was made, as far as the cache tells.
	Date time.Time `json:"date,omitzero"`
	// Problem says why it can't be used, if List came upon a reason.
	Problem string `json:"problem,omitempty"`
}

// ListOptions say what List is to tell.
type ListOptions struct {
	// Filters choose packages; one of them suffices. None chooses all.
	Filters []Filter
	// Brief leaves out Size and Date, which take two requests per package.
	Brief bool
}

// List returns the packages of the cache, sorted by name, version and hash.
// What the index does not know is listed, too.
func (c *Cache) List(ctx context.Context, opt ListOptions) ([]Package, error) {
	g, err := c.catalog(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", c, err)
	}
	for hash, err := range g.broken {
		c.report(fmt.Sprintf("%s can't be read: %v", g.refs[hash].key, err))
	}
	var packages []Package
	for _, s := range g.packages() {
		if matchAny(opt.Filters, s) {
			packages = append(packages, Package{Spec: *s})
		}
	}
	if opt.Brief {
		return packages, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.jobs)
	for i := range packages {
		group.Go(func() error { return c.complete(ctx, g, &packages[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("list %s: %w", c, err)
	}
	return packages, nil
}

// complete fills in what only the manifest knows.
func (c *Cache) complete(ctx context.Context, g *catalog, p *Package) error {
	m, err := c.reader.manifest(ctx, g.refs[p.Hash])
	if err == nil && m.date.IsZero() {
		m, _, err = load(ctx, c.reader, g.refs[p.Hash])
	}
	switch {
	case err == nil:
		p.Size, p.Date = m.archive.Size, m.date
	case isDamage(err):
		p.Problem = err.Error()
	default:
		return err
	}
	return nil
}

// Info is all that a cache says about one package.
type Info struct {
	Package
	// Location is the path of the manifest, or the tag.
	Location string `json:"location"`
	// Archive is the archive, Blobs are all things that the manifest names;
	// in a registry also the archives of what the package runs with.
	Archive Blob   `json:"archive"`
	Blobs   []Blob `json:"blobs"`
	// Signed manifests carry a signature, which is not checked.
	Signed bool `json:"signed"`
	// Indexed says that the index knows the package: without it, Spack
	// takes the package only when it wants this very hash.
	Indexed bool `json:"indexed"`
	// Missing are the dependencies it runs with that are not in the cache.
	Missing []Dependency `json:"missing,omitempty"`
	// Node is how Spack describes it: variants, flags and all the rest.
	Node json.RawMessage `json:"node"`
}

// Info returns all about the package whose hash starts with hash, which may
// have a slash before it. ErrNotFound says that there is none.
func (c *Cache) Info(ctx context.Context, hash string) (*Info, error) {
	g, err := c.catalog(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", c, err)
	}
	r, err := g.find(hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	m, doc, err := load(ctx, c.reader, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	g.learn(doc)
	s := doc.root()
	problem := ""
	if looker, ok := c.reader.(stater); ok {
		_, err := looker.stat(ctx, m.archive)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("%s: %w", c, blobError(m.archive.Digest, err))
		}
		if err != nil {
			problem = "its archive is not there"
		}
	}
	return &Info{
		Package:  Package{Spec: *s, Size: m.archive.Size, Date: m.date, Problem: problem},
		Location: r.key, Archive: m.archive, Blobs: m.parts, Signed: m.signed, Node: s.raw,
		Indexed: g.index != nil && g.index.cached[s.Hash],
		Missing: g.missing(s),
	}, nil
}

// Archive opens the archive of the package that Info would tell about: a tar
// archive, compressed with gzip, of an install prefix with its whole path. The
// last Read fails if it was not the archive that the manifest names.
func (c *Cache) Archive(ctx context.Context, hash string) (io.ReadCloser, Blob, error) {
	refs, err := c.reader.list(ctx)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("look into %s: %w", c, err)
	}
	g := &catalog{refs: map[string]ref{}}
	for _, r := range refs {
		g.refs[r.hash] = r
	}
	r, err := g.find(hash)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("%s: %w", c, err)
	}
	m, err := c.reader.manifest(ctx, r)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("%s: %w", c, err)
	}
	body, err := c.reader.open(ctx, m.archive)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("%s: %w", c, blobError(m.archive.Digest, err))
	}
	return verified(m.archive, body), m.archive, nil
}

// find returns the package whose hash starts with hash.
func (g *catalog) find(hash string) (ref, error) {
	hash = strings.TrimPrefix(hash, "/")
	var found []ref
	for _, r := range g.refs {
		if hash != "" && strings.HasPrefix(r.hash, hash) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return ref{}, fmt.Errorf("package /%s %w", hash, ErrNotFound)
	case 1:
		return found[0], nil
	}
	slices.SortFunc(found, func(a, b ref) int { return strings.Compare(a.key, b.key) })
	return ref{}, fmt.Errorf("/%s is the start of %d hashes, such as those of %s and %s", hash, len(found), found[0].key, found[1].key)
}

// missing returns what s runs with and the cache does not hold.
func (g *catalog) missing(s *Spec) []Dependency {
	var missing []Dependency
	for _, d := range s.Dependencies {
		node := g.nodes[d.Hash]
		external := node != nil && node.External != ""
		if _, ok := g.refs[d.Hash]; d.Runtime() && !ok && !external {
			missing = append(missing, d)
		}
	}
	return missing
}
