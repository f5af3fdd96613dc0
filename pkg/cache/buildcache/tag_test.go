package buildcache

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/test/registry"
)

// tagged is what a tag of a cache in a registry leads to: the image's
// configuration, and the digests of its layers.
func tagged(t *testing.T, c *Cache, tag string) (config ocispec.Image, layers []string) {
	t.Helper()
	r := c.reader.(*repository)
	m, err := r.fetch(t.Context(), tag)
	must(t, err)
	for _, l := range m.parts[1:] {
		layers = append(layers, l.Digest.String())
	}
	body, err := r.open(t.Context(), m.parts[0])
	must(t, err)
	raw, err := limited(body, maxDocument)
	must(t, err)
	must(t, json.Unmarshal(raw, &config))
	return config, layers
}

// An image of packages has them and what they link and run with, each as the
// cache has it, what others need below them.
func TestTag(t *testing.T) {
	c := open(t, "oci+http://"+registry.Start(t, registry.Options{})+"/cache")
	copyAll(t, open(t, newV3(t, stored()...)), c, CopyOptions{})
	before, err := c.List(t.Context(), ListOptions{})
	must(t, err)
	must(t, c.Tag(t.Context(), "latest", Image{Roots: []string{world()["py-tool"].hash()}}))
	must(t, c.Tag(t.Context(), "latest", Image{Roots: []string{world()["app"].hash()}, Env: []string{"PATH=/app/bin:/bin"}}))

	config, layers := tagged(t, c, "latest")
	var want []string
	for _, name := range []string{"zlib", "hdf5", "app"} {
		_, own := tagged(t, c, tagOf(&Spec{Name: name, Version: world()[name].version, Hash: world()[name].hash()}))
		want = append(want, own[len(own)-1])
	}
	if !slices.Equal(layers, want) {
		t.Errorf("the layers are %s, want zlib, hdf5 and app: %s", layers, want)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || len(config.RootFS.DiffIDs) != len(layers) || !slices.Equal(config.Config.Env, []string{"PATH=/app/bin:/bin"}) {
		t.Errorf("the configuration is %+v", config)
	}
	after, err := c.List(t.Context(), ListOptions{})
	must(t, err)
	if len(before) != len(after) {
		t.Errorf("with the tag, there are %d packages, before %d", len(after), len(before))
	}
}

func TestTagThatCannotBe(t *testing.T) {
	c := open(t, "oci+http://"+registry.Start(t, registry.Options{})+"/cache")
	copyAll(t, open(t, newV3(t, "zlib")), c, CopyOptions{})
	zlib := world()["zlib"].hash()
	for name, test := range map[string]struct {
		cache *Cache
		tag   string
		roots []string
		want  error
	}{
		"no registry":          {open(t, newV3(t, "zlib")), "latest", []string{zlib}, ErrNoTags},
		"package that lacks":   {c, "latest", []string{zlib, world()["app"].hash()}, ErrNotFound},
		"tag of a package":     {c, "index.spack", []string{zlib}, nil},
		"only of the system's": {c, "latest", []string{world()["gcc"].hash()}, nil},
		"nothing":              {c, "latest", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cache.Tag(context.Background(), test.tag, Image{Roots: test.roots})
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
	if _, err := c.reader.(*repository).fetch(t.Context(), "latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("there is an image all the same: %v", err)
	}
}
