package buildcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Image says what Tag makes.
type Image struct {
	// Roots are the hashes of packages. What they link and run with comes
	// along.
	Roots []string `json:"roots"`
	// Env are variables, NAME=VALUE, which make the packages usable.
	Env []string `json:"env,omitempty"`
}

// ErrNoTags says that a cache is not in a registry, so that nothing in it can be
// pulled as an image.
var ErrNoTags = errors.New("only a binary cache in a container registry (oci://) has tags")

// Tag makes an image of packages that the cache holds, each a layer as it is, and
// gives it a tag, as 'spack buildcache push --tag' does. It has no base: what the
// packages need of a distribution is not in it. An image that had the tag loses
// it. A package that the cache lacks is an error, ErrNotFound.
func (c *Cache) Tag(ctx context.Context, tag string, img Image) error {
	if err := c.tag(ctx, tag, img); err != nil {
		return fmt.Errorf("tag %s in %s: %w", tag, c.address, err)
	}
	return nil
}

func (c *Cache) tag(ctx context.Context, tag string, img Image) error {
	r, ok := c.writer.(*repository)
	if !ok {
		return ErrNoTags
	}
	if strings.HasSuffix(tag, tagSuffix) {
		return fmt.Errorf("tags that end with %s are those of packages", tagSuffix)
	}
	g, err := c.catalog(ctx, false)
	if err != nil {
		return err
	}
	var roots []*Spec
	for _, hash := range img.Roots {
		s := g.nodes[hash]
		if s == nil {
			return fmt.Errorf("package /%s: %w", hash, ErrNotFound)
		}
		roots = append(roots, s)
	}
	if len(roots) == 0 {
		return errors.New("no package is named")
	}
	config := ocispec.Image{Platform: ocispec.Platform{Architecture: architecture(roots[0].Target), OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers"}}
	config.Config.Env = img.Env
	var blobs []Blob
	for _, s := range g.closure(roots, Dependency.Runtime) {
		if s.External != "" {
			continue
		}
		l, err := c.layerOf(ctx, g, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		config.RootFS.DiffIDs, blobs = append(config.RootFS.DiffIDs, l.diffID), append(blobs, l.blob)
	}
	if len(blobs) == 0 {
		return errors.New("all of it is the system's")
	}
	return r.putImage(ctx, tag, config, blobs)
}

// layerOf is the layer of a package that the cache holds.
func (c *Cache) layerOf(ctx context.Context, g *catalog, s *Spec) (layer, error) {
	at, ok := g.refs[s.Hash]
	if !ok {
		return layer{}, ErrNotFound
	}
	return imageLayer(ctx, c.reader, at)
}

// putImage makes an image of layers that the repository has.
func (r *repository) putImage(ctx context.Context, tag string, config ocispec.Image, layers []Blob) error {
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	b := blobOf(raw, ocispec.MediaTypeImageConfig)
	if err := r.putNew(ctx, b, inMemory(raw)); err != nil {
		return err
	}
	image, err := encodeImage(b, layers, "")
	if err != nil {
		return err
	}
	return r.push(ctx, tag, ocispec.MediaTypeImageManifest, image)
}

// putNew sends a blob unless it is there.
func (r *repository) putNew(ctx context.Context, b Blob, from content) error {
	if _, err := r.stat(ctx, b); err == nil || !errors.Is(err, ErrNotFound) {
		return err
	}
	return r.put(ctx, b, from)
}
