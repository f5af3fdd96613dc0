package builder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// What a step cache has is known by its key alone. The layers are fetched when
// something needs them: a stage of which the image copies something that is
// known, too, is never fetched.

// A pending part of a state is known and not here yet.
type pending struct {
	key  string
	step *remoteStep
	// image is set for a base image.
	image func(context.Context) (state, error)
}

// errStartAgain says that something that was counted on could not be had. What
// is finished is recorded, so that planning again finds it.
var errStartAgain = errors.New("a step cache did not keep its word")

// imported is the state after a step that a cache has; false if none has it.
func (r *run) imported(ctx context.Context, s, next state, x *stepRun) (state, bool) {
	_, isSpack := x.planned.step.(recipe.Spack)
	// The lock file is no part of a step's result.
	lockWanted := isSpack && r.opt.WriteLock
	if r.caches == nil || r.plan.noCache || !s.known || lockWanted {
		return next, false
	}
	found := r.caches.find(ctx, x.planned.Key)
	if found == nil {
		return next, false
	}
	if err := next.take(x.planned.step, found.record()); err != nil {
		r.caches.refuse(x.planned.Key)
		return next, false
	}
	next.layer, next.known = s.layer, true
	next.pending = append(slices.Clone(s.pending), pending{key: x.planned.Key, step: found})
	r.emit(Event{Kind: progress.Info, Stage: x.stage.Name, Step: x.n, Steps: x.of, Text: fmt.Sprintf("step cache %s has it", found.from)})
	return next, true
}

// importedBase is a bootstrapped base that a cache has.
func (r *run) importedBase(ctx context.Context, s state) (state, bool) {
	if r.caches == nil || r.plan.noCache || r.plan.pull == PullAlways {
		return s, false
	}
	found := r.caches.find(ctx, s.key)
	if found == nil {
		return s, false
	}
	s.pending, s.known = []pending{{key: s.key, step: found}}, true
	return s, true
}

// lazyBase asks a registry what a base image is, and fetches it when something
// needs it. Whatever is wrong with it, fetching it says so.
func (r *run) lazyBase(ctx context.Context, from string, st *recipe.Stage) (state, bool) {
	ref, err := alltransports.ParseImageName(from)
	if r.caches == nil || r.lazyBroken.Load() || err == nil && ref.Transport().Name() != "docker" {
		return state{}, false
	}
	platform := r.plan.platform(st)
	sys := r.b.remote.SystemContext(platform)
	name := from
	if err == nil {
		name = ref.DockerReference().String()
	}
	resolved, err := shortnames.Resolve(sys, name)
	if err != nil || len(resolved.PullCandidates) != 1 {
		return state{}, false
	}
	if ref, err = alltransports.ParseImageName("docker://" + resolved.PullCandidates[0].Value.String()); err != nil {
		return state{}, false
	}
	src, err := r.b.openSource(ctx, ref, sys)
	if err != nil {
		return state{}, false
	}
	defer func() { _ = src.Close() }() // it was only read
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
	if err != nil {
		return state{}, false
	}
	config, err := configOf(ctx, img)
	if err != nil {
		return state{}, false
	}
	s := baseState(img.ConfigInfo().Digest.Encoded(), config)
	s.known = true
	s.pending = []pending{{key: s.key, image: func(ctx context.Context) (state, error) {
		return r.b.fetchBase(ctx, from, baseOptions{platform: platform, pull: r.plan.pull, fetch: true, events: r.emit, event: Event{Kind: progress.Transfer, Text: "from " + from}})
	}}}
	return s, true
}

// bring fetches what s is known to consist of and is not here.
func (r *run) bring(ctx context.Context, s *state) error {
	for len(s.pending) > 0 {
		p := s.pending[0]
		layer, err := r.bringOne(ctx, s.layer, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && p.image != nil {
			return err
		}
		if err != nil {
			r.caches.refuse(p.key)
			r.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("step cache %s: '%s': %v; the step runs here", p.step.from, p.step.note.Text, err)})
			return errStartAgain
		}
		s.layer, s.pending = layer, s.pending[1:]
	}
	return nil
}

func (r *run) bringOne(ctx context.Context, parent string, p pending) (string, error) {
	if p.image != nil {
		s, err := p.image(ctx)
		if err == nil && s.key != p.key {
			r.lazyBroken.Store(true) // the name means another image now
			err = errStartAgain
		}
		return s.layer, err
	}
	unlock, err := r.b.steps.Lock(ctx, p.key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if rec, ok := r.b.lookup(state{layer: parent}, p.key); ok {
		return rec.Layer, nil // another stage or build has fetched it
	}
	rec := p.step.record()
	rec.Layer = parent
	// It announces the layers as one that is executed does.
	x := &stepRun{run: r}
	ids, err := x.fetchLayers(ctx, parent, p.step)
	if err == nil {
		for i := range rec.Below {
			rec.Below[i].ID = ids[i]
		}
		if len(ids) > 0 {
			rec.Layer = ids[len(ids)-1]
		}
		err = r.b.steps.Put(p.key, rec)
	}
	return rec.Layer, errors.Join(err, x.settle(err == nil))
}

// fetchLayers puts the layers of a step into the store, one on top of the
// other, but for those that it has. While one is unpacked the next is on its way.
func (x *stepRun) fetchLayers(ctx context.Context, parent string, s *remoteStep) (ids []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type fetched struct {
		file *os.File
		err  error
	}
	coming := make(chan fetched, 1)
	contents := x.run.b.fetchedContents(parent, s.diffs)
	go func() {
		defer close(coming)
		for i, blob := range s.blobs {
			if x.run.b.soundLayer(contents[i].id(), contents[i]) == nil {
				coming <- fetched{}
				continue
			}
			file, err := x.run.b.fetchBlob(ctx, s, blob)
			coming <- fetched{file, err}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		for f := range coming {
			if f.file != nil {
				_ = f.file.Close()
			}
		}
	}()
	for i := range s.diffs {
		f := <-coming
		if f.err != nil {
			return ids, f.err
		}
		c := contents[i]
		c.parent = parent
		rec, err := x.makeLayer(ctx, c, func(id string) (_ *storage.Layer, err error) {
			if f.file == nil { // it was removed meanwhile
				if f.file, err = x.run.b.fetchBlob(ctx, s, s.blobs[i]); err != nil {
					return nil, err
				}
			}
			return x.run.b.putFetched(c.target, id, f.file)
		})
		if f.file != nil {
			err = errors.Join(err, f.file.Close())
		}
		if err != nil {
			return ids, err
		}
		ids, parent = append(ids, rec.Layer), rec.Layer
	}
	return ids, nil
}

// fetchedContents are the layers with these digests on top of parent.
func (b *Builder) fetchedContents(parent string, diffs []digest.Digest) []layerContent {
	contents := make([]layerContent, len(diffs))
	for i, d := range diffs {
		contents[i] = layerContent{target{parent: parent}, d, -1}
		parent = contents[i].id()
	}
	return contents
}

// fetchBlob fetches a blob whole: what has another digest never reaches the
// store.
func (b *Builder) fetchBlob(ctx context.Context, s *remoteStep, blob v1.Descriptor) (_ *os.File, err error) {
	body, _, err := s.src.GetBlob(ctx, types.BlobInfo{Digest: blob.Digest, Size: blob.Size, MediaType: blob.MediaType}, none.NoCache)
	if err != nil {
		return nil, fmt.Errorf("fetch layer: %w", err)
	}
	defer body.Close()
	f, err := b.temporary()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	sum := digest.SHA256.Digester()
	n, err := io.Copy(io.MultiWriter(f, sum.Hash()), io.LimitReader(body, blob.Size+1))
	if err != nil {
		return nil, fmt.Errorf("fetch layer: %w", err)
	}
	if n != blob.Size || sum.Digest() != blob.Digest {
		return nil, fmt.Errorf("layer %s is refused: what came has another digest", blob.Digest)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// putFetched unpacks a layer.
func (b *Builder) putFetched(to target, id string, stream io.Reader) (*storage.Layer, error) {
	l, _, err := b.store.PutLayer(id, to.parent, nil, "", false, to.options(), bufio.NewReaderSize(stream, 1<<20))
	if err != nil {
		if beyond := b.ids.unpackError(err); beyond != nil {
			return nil, beyond
		}
		return nil, err
	}
	return l, b.examineMade(l)
}

// bringStages fetches what stages consist of before a step takes something
// from them.
func (r *run) bringStages(ctx context.Context, names ...string) error {
	for _, name := range names {
		s, ok := r.finished()[name]
		if !ok || len(s.pending) == 0 {
			continue
		}
		if err := r.bring(ctx, &s); err != nil {
			return err
		}
		r.mu.Lock()
		r.states[name] = s
		r.mu.Unlock()
	}
	return nil
}

// takesFrom are the stages whose files a step looks at.
func (x *stepRun) takesFrom() []string {
	names := stepNeeds(x.planned.step)
	if _, ok := x.planned.step.(libraryProof); ok {
		for _, s := range x.stage.Steps {
			names = append(names, stepNeeds(s)...)
		}
	}
	return names
}
