package buildcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// grace is how long what no manifest names is left alone: somebody may be
// about to name it.
const grace = time.Hour

// PruneOptions say what Prune removes. The zero value removes only blobs that
// nothing names.
type PruneOptions struct {
	// Before removes packages that are older. Zero removes none for their
	// age.
	Before time.Time
	// Keep, if not nil, removes all packages but those with these hashes
	// and what they link with and run with. Together with Before, packages
	// are removed that are both old and not to be kept.
	Keep []string
	// Grace is how long blobs that nothing names are left alone, since a
	// package that is being copied may be about to name them; 1 h by
	// default, < 0 for not at all.
	Grace time.Duration
	// DryRun removes nothing.
	DryRun bool
}

// A PruneResult says what Prune removed, or would.
type PruneResult struct {
	Removed []Package `json:"removed"`
	Kept    int       `json:"kept"`
	// Blobs and Bytes are what this freed in a directory. A registry frees
	// space when it collects its garbage.
	Blobs int          `json:"blobs"`
	Bytes int64        `json:"bytes"`
	Index *IndexResult `json:"index,omitempty"`
}

// Prune removes packages from the cache. What a package that stays links with
// or runs with stays, too. First the index stops naming what goes, then the
// packages go, then what they consisted of.
func (c *Cache) Prune(ctx context.Context, opt PruneOptions) (*PruneResult, error) {
	if _, err := c.writable(); err != nil {
		return nil, err
	}
	result, err := c.prune(ctx, opt)
	if err != nil {
		return result, fmt.Errorf("prune %s: %w", c, err)
	}
	return result, nil
}

func (c *Cache) prune(ctx context.Context, opt PruneOptions) (*PruneResult, error) {
	g, err := c.catalog(ctx, false)
	if err != nil {
		return nil, err
	}
	result := &PruneResult{Removed: []Package{}}
	if result.Removed, err = c.doomed(ctx, g, opt); err != nil {
		return nil, err
	}
	result.Kept = len(g.refs) - len(result.Removed)
	var going []ref
	for _, p := range result.Removed {
		going = append(going, g.refs[p.Hash])
		delete(g.refs, p.Hash)
	}
	if !opt.DryRun && len(going) > 0 {
		if result.Index, err = c.writeIndex(ctx, g); err != nil {
			return result, fmt.Errorf("index: %w", err)
		}
		if err := c.removeAll(ctx, g, going); err != nil {
			return result, err
		}
	}
	broom, ok := c.writer.(sweeper)
	if !ok {
		return result, nil
	}
	if opt.Grace == 0 {
		opt.Grace = grace
	}
	result.Blobs, result.Bytes, err = broom.sweep(ctx, going, time.Now().Add(-max(0, opt.Grace)), opt.DryRun)
	return result, err
}

// doomed returns the packages that go.
func (c *Cache) doomed(ctx context.Context, g *catalog, opt PruneOptions) ([]Package, error) {
	removed := []Package{}
	if opt.Before.IsZero() && opt.Keep == nil {
		return removed, nil
	}
	var packages []Package
	for _, s := range g.packages() {
		packages = append(packages, Package{Spec: *s})
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(c.jobs)
	for i := range packages {
		group.Go(func() error { return c.complete(groupCtx, g, &packages[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var staying []*Spec
	for _, p := range packages {
		young := !opt.Before.IsZero() && (p.Date.IsZero() || !p.Date.Before(opt.Before))
		if young || slices.Contains(opt.Keep, p.Hash) {
			staying = append(staying, g.nodes[p.Hash])
		}
	}
	needed := map[string]bool{}
	stays := func(d Dependency) bool { return d.Runtime() || slices.Contains(d.Types, builtAs) }
	for _, s := range g.closure(staying, stays) {
		needed[s.Hash] = true
	}
	for _, p := range packages {
		if !needed[p.Hash] {
			removed = append(removed, p)
		}
	}
	return removed, nil
}

// removeAll removes packages, and goes on if one can't be. Those that stay
// after all, as in a registry that does not allow deletion, come back into the
// index.
func (c *Cache) removeAll(ctx context.Context, g *catalog, going []ref) error {
	from, ok := c.writer.(remover)
	if !ok {
		return ErrReadOnly
	}
	var failures []error
	for _, r := range going {
		if err := from.remove(ctx, r); err != nil {
			failures = append(failures, fmt.Errorf("remove %s: %w", r.key, err))
			g.refs[r.hash] = r
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) > 0 && ctx.Err() == nil {
		if _, err := c.writeIndex(ctx, g); err != nil {
			failures = append(failures, fmt.Errorf("index: %w", err))
		}
	}
	return errors.Join(failures...)
}
