package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// A step cache keeps finished steps in a registry or a directory, so that a
// host without a store of its own starts warm. Each step is an ordinary OCI
// image whose tag ends in the step's key: its layers are those that the step
// has added, and a label of its configuration has the rest of the record.
// Everything is named by its digest but the tag: whoever may write tags there
// decides what is taken for the result of a step.

// A StepCache says where finished steps are kept. Exactly one of Repository and
// Dir is set.
type StepCache struct {
	// Repository is HOST/NAME or HOST/NAME:TAG in a registry. The tags of steps
	// begin with TAG, by default with "step".
	Repository string
	// Dir is a directory in the OCI layout.
	Dir string
	// All also takes the steps of stages that the image is not based on, which
	// it only copies from. It is of no meaning for reading.
	All bool
}

// String names the cache for people.
func (c StepCache) String() string {
	if c.Dir != "" {
		return c.Dir
	}
	return c.Repository
}

// reference is the image of the step with this key.
func (c StepCache) reference(key string) (types.ImageReference, error) {
	bad := func(err error) error {
		return &InputError{Subject: "step cache " + c.String(), Err: err, Hint: "name a repository, such as registry.example.org/group/cache, or type=local with a directory"}
	}
	if c.Dir != "" {
		dir, err := filepath.Abs(c.Dir)
		if err != nil {
			return nil, bad(err)
		}
		ref, err := alltransports.ParseImageName("oci:" + dir + ":step-" + key)
		if err != nil {
			return nil, bad(err)
		}
		return ref, nil
	}
	named, err := reference.ParseNormalizedNamed(c.Repository)
	if err != nil {
		return nil, bad(err)
	}
	prefix := "step"
	if tagged, ok := named.(reference.NamedTagged); ok {
		prefix = tagged.Tag()
	}
	ref, err := alltransports.ParseImageName("docker://" + reference.TrimNamed(named).Name() + ":" + prefix + "-" + key)
	if err != nil {
		return nil, bad(err)
	}
	return ref, nil
}

// stepLabel has what is known about a step beside its layers.
const stepLabel = "org.pdidev.pdibuild.step"

// A stepNote is the content of stepLabel.
type stepNote struct {
	// Key must be the one that was asked for: a tag can be moved.
	Key string `json:"key"`
	// Notes are the history entries of the layers, the lowest first.
	Notes []string        `json:"notes,omitempty"`
	Text  string          `json:"text,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// maxStepConfig bounds what is read before anything is known about it.
const maxStepConfig = 32 << 20

// A remoteStep is a step that a step cache has.
type remoteStep struct {
	key   string
	from  StepCache
	src   types.ImageSource
	note  stepNote
	blobs []v1.Descriptor
	diffs []digest.Digest
}

// record is the step's record, without the ids that its layers will have here.
func (s *remoteStep) record() cache.Record {
	rec := cache.Record{Data: s.note.Data, Text: s.note.Text}
	for i := range s.diffs {
		l := cache.Layer{DiffID: s.diffs[i].String(), Note: s.note.Notes[i]}
		if i == len(s.diffs)-1 {
			rec.Added, rec.DiffID, rec.Note = true, l.DiffID, l.Note
		} else {
			rec.Below = append(rec.Below, l)
		}
	}
	return rec
}

// stepCaches are those that a build looks into.
type stepCaches struct {
	b    *Builder
	from []StepCache
	emit func(Event)

	mu sync.Mutex
	// out are caches that could not be used: they are not asked again.
	out map[StepCache]bool
	// refused are steps whose content was not what it should be.
	refused map[string]bool
	open    []io.Closer
}

// find looks a step up: one manifest for each cache until one has it. Trouble
// with a cache is said once; the build goes on without it.
func (c *stepCaches) find(ctx context.Context, key string) *remoteStep {
	if c == nil || key == "" {
		return nil
	}
	for _, from := range c.from {
		c.mu.Lock()
		skip := c.out[from] || c.refused[key]
		c.mu.Unlock()
		if skip {
			continue
		}
		found, err := c.b.findStep(ctx, from, key)
		var poisoned *poisonError
		switch {
		case err == nil:
			c.mu.Lock()
			c.open = append(c.open, found.src)
			c.mu.Unlock()
			return found
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNoStep):
		case errors.As(err, &poisoned):
			c.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("step cache %s: %v; the step runs here", from, err)})
		default:
			c.giveUp(from, err)
		}
	}
	return nil
}

// giveUp stops asking a cache, and says why once.
func (c *stepCaches) giveUp(from StepCache, err error) {
	c.mu.Lock()
	again := c.out[from]
	c.out[from] = true
	c.mu.Unlock()
	if again {
		return
	}
	c.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("step cache %s cannot be used, and the build goes on without it: %v", from, err)})
}

func (c *stepCaches) refuse(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[key] = true
}

func (c *stepCaches) close() {
	if c == nil {
		return
	}
	for _, s := range c.open {
		_ = s.Close() // it was only read
	}
}

// errNoStep says that a cache does not have a step.
var errNoStep = errors.New("it does not have the step")

// A poisonError says that what a cache gives is not what it has to be.
type poisonError struct {
	key  string
	what string
}

func (e *poisonError) Error() string {
	return fmt.Sprintf("the entry of step %.12s is refused: %s", e.key, e.what)
}

// findStep asks one cache.
func (b *Builder) findStep(ctx context.Context, from StepCache, key string) (_ *remoteStep, err error) {
	ref, err := from.reference(key)
	if err != nil {
		return nil, err
	}
	src, err := b.openSource(ctx, ref, b.remote.SystemContext(""))
	if err != nil {
		return nil, notFoundStep(err)
	}
	defer func() {
		if err != nil {
			_ = src.Close()
		}
	}()
	raw, _, err := src.GetManifest(ctx, nil)
	if err != nil {
		return nil, notFoundStep(src.front.Explain(err))
	}
	s := &remoteStep{key: key, from: from, src: src}
	return s, s.read(ctx, raw)
}

// notFoundStep recognises the ways in which registries and directories say that
// they do not have something.
func notFoundStep(err error) error {
	var noTag layout.ImageNotFoundError
	if imagetransfer.IsNotFound(err) || errors.Is(err, fs.ErrNotExist) || errors.As(err, &noTag) {
		return errNoStep
	}
	return err
}

// read reads the manifest and the configuration that it names.
func (s *remoteStep) read(ctx context.Context, raw []byte) error {
	poison := func(format string, args ...any) error { return &poisonError{s.key, fmt.Sprintf(format, args...)} }
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return poison("its manifest: %v", err)
	}
	if m.Config.Size > maxStepConfig || m.Config.Digest.Validate() != nil {
		return poison("its manifest names no configuration that could be read")
	}
	body, _, err := s.src.GetBlob(ctx, types.BlobInfo{Digest: m.Config.Digest, Size: m.Config.Size}, none.NoCache)
	if err != nil {
		return err
	}
	defer body.Close()
	config, err := io.ReadAll(io.LimitReader(body, maxStepConfig))
	if err != nil {
		return err
	}
	if digest.FromBytes(config) != m.Config.Digest {
		return poison("its configuration has another digest")
	}
	var image v1.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return poison("its configuration: %v", err)
	}
	if err := json.Unmarshal([]byte(image.Config.Labels[stepLabel]), &s.note); err != nil {
		return poison("it is no step")
	}
	s.blobs, s.diffs = m.Layers, image.RootFS.DiffIDs
	switch n := len(s.diffs); {
	case s.note.Key != s.key:
		return poison("it is that of another step, %.12s", s.note.Key)
	case len(s.blobs) != n || len(s.note.Notes) != n:
		return poison("it names %d layers, and %d contents", len(s.blobs), n)
	}
	for i := range s.diffs {
		if s.blobs[i].Digest.Validate() != nil || s.diffs[i].Validate() != nil {
			return poison("a layer has no digest")
		}
	}
	return nil
}

// A stepImage is a finished step of the store as an image without a base, for
// the library to copy: it compresses what no registry has yet, remembers how it
// was compressed, and mounts what is in another repository.
type stepImage struct {
	b                *Builder
	store            types.ImageReference
	manifest, config []byte
	layers           []cache.Layer
}

func (b *Builder) stepImage(key string, rec cache.Record, store types.ImageReference) (*stepImage, error) {
	s := &stepImage{b: b, store: store, layers: addedLayers(rec)}
	note := stepNote{Key: key, Text: rec.Text, Data: rec.Data}
	image := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: hostArchitecture}, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	m.SchemaVersion = 2
	for _, l := range s.layers {
		stored, err := b.store.Layer(l.ID)
		if err != nil {
			return nil, err
		}
		note.Notes = append(note.Notes, l.Note)
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, stored.UncompressedDigest)
		image.History = append(image.History, v1.History{CreatedBy: "pdibuild: " + rec.Text})
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: stored.UncompressedDigest, Size: stored.UncompressedSize})
	}
	label, err := json.Marshal(note)
	if err != nil {
		return nil, err
	}
	image.Config.Labels = map[string]string{stepLabel: string(label)}
	if s.config, err = json.Marshal(image); err != nil {
		return nil, err
	}
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(s.config), Size: int64(len(s.config))}
	s.manifest, err = json.Marshal(m)
	return s, err
}

// blob returns a layer's stream, or the configuration.
func (s *stepImage) blob(info types.BlobInfo) (io.ReadCloser, int64, error) {
	if info.Digest == digest.FromBytes(s.config) {
		return io.NopCloser(bytes.NewReader(s.config)), int64(len(s.config)), nil
	}
	for _, l := range s.layers {
		if l.DiffID == info.Digest.String() {
			return s.b.layerStream(l.ID)
		}
	}
	return nil, 0, fmt.Errorf("the step has no layer %s", info.Digest)
}
