package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// commit writes the image of a finished stage. Nothing is copied: an image in
// the store is a configuration and a manifest that name layers which are
// there already. The same state gives the same bytes, and so the same id.
func (r *run) commit(s state) (*Result, error) {
	r.emit(Event{Kind: progress.Commit})
	config, manifest, err := r.documents(&s)
	if err != nil {
		return nil, fmt.Errorf("write the image: %w", err)
	}
	if err := r.searchImage(s, config, manifest); err != nil {
		return nil, err
	}
	id := digest.FromBytes(config).Encoded()
	if err := r.b.createImage(id, s.layer, config, manifest, storage.ImageOptions{CreationDate: r.plan.time()}); err != nil {
		return nil, fmt.Errorf("write the image: %w", err)
	}
	r.b.warnLayers(id, len(s.image.RootFS.DiffIDs), r.emit)
	if key := imageKey(s); key != "" {
		if err := r.b.steps.Put(key, cache.Record{ImageID: id, Layer: s.layer, Text: "image of stage " + r.plan.target}); err != nil {
			return nil, err
		}
	}
	res := &Result{ImageID: id, Cached: r.cached, Executed: r.executed, LogDir: r.logDir}
	if r.executed == 0 {
		res.LogDir = ""
	}
	return res, r.b.describe(res, r.opt.Tags)
}

// documents are the configuration and the manifest of an image of a stage.
func (r *run) documents(s *state) (config, manifest []byte, err error) {
	layers, err := r.b.layers(s.layer)
	if err != nil {
		return nil, nil, err
	}
	epoch := r.plan.time()
	s.image.Created = &epoch
	s.image.RootFS = v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range layers {
		s.image.RootFS.DiffIDs = append(s.image.RootFS.DiffIDs, l.UncompressedDigest)
	}
	s.image.History = fitHistory(s.image.History, len(layers))
	if config, err = s.config(); err != nil {
		return nil, nil, err
	}
	manifest, err = manifestFor(config, layers, s.annotations)
	return config, manifest, err
}

// layers returns the chain that ends in top, the lowest first.
func (b *Builder) layers(top string) ([]*storage.Layer, error) {
	var chain []*storage.Layer
	for id := top; id != ""; {
		l, err := b.store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("find layer %.12s: %w", id, err)
		}
		if l.UncompressedDigest == "" {
			return nil, fmt.Errorf("layer %.12s has no digest; fetch its image again", id)
		}
		chain = append(chain, l)
		id = l.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

func manifestFor(config []byte, layers []*storage.Layer, annotations map[string]string) ([]byte, error) {
	m := v1.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   v1.MediaTypeImageManifest,
		Config:      v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:      []v1.Descriptor{},
		Annotations: annotations,
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: l.UncompressedDigest, Size: l.UncompressedSize})
	}
	return json.Marshal(m)
}

// fitHistory makes the history speak of exactly as many layers as there are:
// some base images have none, or an incomplete one.
func fitHistory(history []v1.History, layers int) []v1.History {
	said := 0
	for _, h := range history {
		if !h.EmptyLayer {
			said++
		}
	}
	for said < layers {
		history = append([]v1.History{{CreatedBy: "unknown"}}, history...)
		said++
	}
	return history
}

// createImage records the image under the keys where the libraries of podman
// and buildah look for them. An image that is there already is kept; where a
// process was killed between making the image and its data, they are added.
func (b *Builder) createImage(id, layer string, config, manifest []byte, opt storage.ImageOptions) error {
	manifestDigest, configDigest := digest.FromBytes(manifest), digest.FromBytes(config)
	opt.Digest = manifestDigest
	opt.BigData = []storage.ImageBigDataOption{
		{Key: storage.ImageDigestManifestBigDataNamePrefix + "-" + manifestDigest.String(), Data: manifest, Digest: manifestDigest},
		{Key: storage.ImageDigestBigDataKey, Data: manifest, Digest: manifestDigest},
		{Key: configDigest.String(), Data: config, Digest: configDigest},
	}
	_, err := b.store.CreateImage(id, nil, layer, "{}", &opt)
	if !errors.Is(err, storage.ErrDuplicateID) {
		return err
	}
	img, err := b.store.Image(id)
	if err != nil {
		return err
	}
	if img.TopLayer != layer {
		// The same image on other layers, of which some may have gone.
		return nil
	}
	for _, d := range opt.BigData {
		if old, err := b.store.ImageBigData(id, d.Key); err == nil && bytes.Equal(old, d.Data) {
			continue
		}
		known := func([]byte) (digest.Digest, error) { return d.Digest, nil }
		if err := b.store.SetImageBigData(id, d.Key, d.Data, known); err != nil {
			return err
		}
	}
	return nil
}

// describe names the image and fills in what the result says of it.
func (b *Builder) describe(res *Result, names []string) error {
	img, err := b.store.Image(res.ImageID)
	if err != nil {
		return fmt.Errorf("find the image: %w", err)
	}
	// To add names writes the list of all images, also if it has them already.
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(img.Names, name) })
	if len(missing) > 0 {
		if err := b.store.AddNames(img.ID, missing); err != nil {
			return fmt.Errorf("name the image: %w", err)
		}
	}
	layers, err := b.layers(img.TopLayer)
	if err != nil {
		return err
	}
	res.Digest, res.Names, res.Layers = img.Digest.String(), names, len(layers)
	for _, l := range layers {
		res.Size += l.UncompressedSize
	}
	return nil
}

// imageNames are the names that the tags mean for the recipe's image, spelled as
// podman does: docker.io/app is docker.io/library/app.
func imageNames(r *recipe.Recipe, tags []string) ([]string, error) {
	full, err := r.ImageNames(tags)
	if err != nil {
		return nil, &InputError{Subject: "tags", Err: err}
	}
	var names []string
	for _, name := range full {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, &InputError{Subject: "tag " + name, Err: err, Hint: "a full name looks like registry.example.org/group/name:tag, in lower case but for the tag"}
		}
		names = append(names, reference.TagNameOnly(ref).String())
	}
	return names, nil
}
