package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.podman.io/image/v5/copy"
	is "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// exportJobs is how many steps are sent side by side: each sends several layers
// at once by itself.
const exportJobs = 3

// A finishedStep is one that a build has found or done.
type finishedStep struct{ stage, key string }

// exportSteps sends the steps of this build to the caches that want them.
// Trouble is a warning: the image is what was asked for.
func (r *run) exportSteps(ctx context.Context) {
	for _, to := range r.opt.CacheTo {
		sent, had, err := r.exportTo(ctx, to)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("step cache %s: %d steps were sent, and then: %v", to, sent, err)})
		default:
			r.emit(Event{Kind: progress.Info, Text: fmt.Sprintf("step cache %s: %d steps sent, %d were there", to, sent, had)})
		}
	}
}

func (r *run) exportTo(ctx context.Context, to StepCache) (sent, had int, err error) {
	if to.Dir != "" {
		unlock, err := lockStepCache(ctx, to.Dir)
		if err != nil {
			return 0, 0, err
		}
		defer unlock()
	}
	stages := r.chain()
	r.mu.Lock()
	steps := slices.Clone(r.steps)
	r.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(exportJobs)
	if to.Dir != "" {
		g.SetLimit(1) // they share an index
	}
	begun := map[string]bool{}
	for _, s := range steps {
		if !to.All && !stages[s.stage] || begun[s.key] {
			continue
		}
		begun[s.key] = true
		g.Go(func() error {
			isNew, err := r.exportFinished(ctx, s.key, to)
			if errors.Is(err, errNoStep) {
				return nil // it was not finished
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if err == nil && isNew {
				sent++
			} else if err == nil {
				had++
			}
			return err
		})
	}
	err = g.Wait()
	return sent, had, err
}

// chain are the target and the stages that it is based on.
func (r *run) chain() map[string]bool {
	stages := map[string]bool{}
	for name := r.plan.target; r.plan.Recipe.Stage(name) != nil && !stages[name]; name = r.plan.Recipe.Stage(name).From {
		stages[name] = true
	}
	return stages
}

// exportFinished sends one step unless it is there: from the store or, if its
// layers were not needed here, from the cache that has them.
func (r *run) exportFinished(ctx context.Context, key string, to StepCache) (sent bool, err error) {
	rec, unknown := r.b.steps.Get(key)
	if unknown != nil && !errors.Is(unknown, cache.ErrUnknown) {
		return false, unknown
	}
	if found, err := r.b.findStep(ctx, to, key); err == nil {
		return false, found.src.Close()
	}
	if unknown == nil {
		return true, r.exportStep(ctx, key, rec, to)
	}
	found := r.caches.find(ctx, key)
	if found == nil {
		return false, errNoStep
	}
	return true, r.passOn(ctx, found, to)
}

// passOn copies a step from one cache to another as it is.
func (r *run) passOn(ctx context.Context, found *remoteStep, to StepCache) error {
	src, err := found.from.reference(found.key)
	if err != nil {
		return err
	}
	note, err := json.Marshal(found.note)
	if err != nil {
		return err
	}
	if err := r.withoutSecrets(note, found.note.Text); err != nil {
		return err
	}
	return r.sendStep(ctx, r.b.remote.SystemContext(""), src, remoteKey{to, found.key})
}

// withoutSecrets says that what is noted about a step holds a secret.
func (r *run) withoutSecrets(note []byte, step string) error {
	if hit, ok := r.secrets.Find(note); ok {
		return fmt.Errorf("the value of secret %q is in what is noted about '%s' (%s): it is not sent", hit.ID, step, hit.Form)
	}
	return nil
}

// exportStep sends one step of the store.
func (r *run) exportStep(ctx context.Context, key string, rec cache.Record, to StepCache) error {
	store, err := is.Transport.NewStoreReference(r.b.store, nil, key)
	if err != nil {
		return err
	}
	image, err := r.b.stepImage(key, rec, store)
	if err != nil {
		return err
	}
	if err := r.withoutSecrets(image.config, rec.Text); err != nil {
		return err
	}
	sys := r.b.remote.SystemContext("")
	if err := setCompression(sys, to.Dir == "", PushOptions{Compression: r.opt.CacheCompression}); err != nil {
		return err
	}
	return r.sendStep(ctx, sys, image, remoteKey{to, key})
}

// A remoteKey is a step in a step cache.
type remoteKey struct {
	cache StepCache
	key   string
}

// sendStep copies the image of a step to a step cache; sys is for writing.
func (r *run) sendStep(ctx context.Context, sys *types.SystemContext, image types.ImageReference, to remoteKey) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("send step: %w", err)
		}
	}()
	var layout *layoutWriter
	if to.cache.Dir != "" {
		if layout, err = openLayout(to.cache.Dir); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, layout.Close()) }()
		to.cache.Dir, sys.OCISharedBlobDirPath = layout.staged, layout.blobs
	}
	dst, err := to.cache.reference(to.key)
	if err != nil {
		return err
	}
	if _, err := r.b.copyImage(ctx, r.b.remote.SystemContext(""), image, dst, &copy.Options{DestinationCtx: sys}); err != nil || layout == nil {
		return err
	}
	return layout.commit()
}

// lockStepCache keeps others, also on other hosts, from writing to a directory
// with steps.
func lockStepCache(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".pdibuild.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, err
	}
	if err := lockfile.Wait(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
