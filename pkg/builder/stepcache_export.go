package builder

import (
	"context"
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

	"github.com/pdidev/pdibuild/pkg/cache"
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
			r.emit(Event{Kind: EventWarning, Text: fmt.Sprintf("step cache %s: %d steps were sent, and then: %v", to, sent, err)})
		default:
			r.emit(Event{Kind: EventInfo, Text: fmt.Sprintf("step cache %s: %d steps sent, %d were there", to, sent, had)})
		}
	}
}

func (r *run) exportTo(ctx context.Context, to StepCache) (sent, had int, err error) {
	if to.Dir != "" {
		unlock, err := lockDir(to.Dir)
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
			rec, err := r.b.steps.Get(s.key)
			if errors.Is(err, cache.ErrUnknown) {
				return nil // it has no result, or its layers were not needed and are not here
			}
			if err != nil {
				return err
			}
			isNew, err := r.exportStep(ctx, s.key, rec, to)
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

// exportStep sends one step unless it is there.
func (r *run) exportStep(ctx context.Context, key string, rec cache.Record, to StepCache) (sent bool, err error) {
	dst, err := to.reference(key)
	if err != nil {
		return false, err
	}
	sys := r.b.systemContext("")
	if found, err := r.b.findStep(ctx, to, key); err == nil {
		return false, found.src.Close()
	}
	if err := setCompression(sys, dst, PushOptions{Compression: r.opt.CacheCompression}); err != nil {
		return false, err
	}
	store, err := is.Transport.NewStoreReference(r.b.store, nil, key)
	if err != nil {
		return false, err
	}
	image, err := r.b.stepImage(key, rec, store)
	if err != nil {
		return false, err
	}
	if hit, ok := r.secrets.Find(image.config); ok {
		return false, fmt.Errorf("the value of secret %q is in what is noted about '%s' (%s): it is not sent", hit.ID, rec.Text, hit.Form)
	}
	return true, r.sendStep(ctx, sys, image, dst)
}

func (r *run) sendStep(ctx context.Context, sys *types.SystemContext, image *stepImage, dst types.ImageReference) error {
	if _, err := r.b.copyImage(ctx, sys, image, dst, &copy.Options{}); err != nil {
		return fmt.Errorf("send step: %w", err)
	}
	return nil
}

// lockDir keeps others from writing to a directory in the OCI layout.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".pdibuild.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, unix.ENOTSUP) {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
