package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/cache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// CacheLimits say how much is kept for later builds. The zero value sets no
// limit.
type CacheLimits struct {
	// Keep is how many bytes may stay. Zero means any number.
	Keep int64
	// Older is for how long something may be unused. Zero means for ever.
	Older time.Duration
}

// PruneOptions say what PruneCache removes. The zero value removes only what no
// build can use any more.
type PruneOptions struct {
	CacheLimits
	// All takes images without a name and containers of failed steps for
	// things that may go, too. Without limits all goes that nothing keeps.
	All bool
	// DryRun removes nothing.
	DryRun bool
}

// A PruneResult says what PruneCache removed, or would.
type PruneResult struct {
	Removed []CacheEntry `json:"removed"`
	// Freed and Left are bytes.
	Freed int64 `json:"freed"`
	Left  int64 `json:"left"`
	// Kept is how many of the bytes left are kept by something.
	Kept int64 `json:"kept"`
}

// PruneCache removes what is kept for later builds, what was unused for
// longest first. What an image with a name, a container, a layer of another
// program or a running build needs stays.
//
// It may be killed at any time: a step's record goes before its layers, and
// layers that nobody knows are removed the next time.
func (b *Builder) PruneCache(ctx context.Context, opt PruneOptions) (_ *PruneResult, err error) {
	defer func() { err = b.hostCause("clear the cache", err) }()
	sweep, err := b.users.Sweep(ctx)
	if err != nil {
		return nil, err
	}
	defer sweep.End()
	if !opt.DryRun {
		b.spackStore().RemovePartialFiles(ctx)
	}
	entries, err := b.inventory(ctx, sweep)
	if err != nil {
		return nil, err
	}
	p := &pruning{b: b, opt: opt, sweep: sweep, packages: map[string]bool{}, gone: map[*CacheEntry]bool{}, above: map[*CacheEntry][]*CacheEntry{}, result: &PruneResult{Removed: []CacheEntry{}}}
	for _, e := range entries {
		p.result.Left += e.Size
	}
	err = p.run(ctx, entries)
	for _, e := range entries {
		if len(e.KeptBy) > 0 {
			p.result.Kept += e.Size
		}
	}
	if err != nil {
		return p.result, fmt.Errorf("prune the cache: %w", err)
	}
	return p.result, nil
}

// A pruning is one call of PruneCache.
type pruning struct {
	b        *Builder
	opt      PruneOptions
	sweep    *cache.Sweep
	packages map[string]bool
	gone     map[*CacheEntry]bool
	// above are the entries that stand on one.
	above  map[*CacheEntry][]*CacheEntry
	result *PruneResult
}

func (p *pruning) run(ctx context.Context, entries []*CacheEntry) error {
	for _, e := range entries {
		if p.spared(e) {
			e.kept("what was not asked for")
		}
	}
	spread(entries)
	for _, e := range entries {
		for _, below := range e.needs {
			p.above[below] = append(p.above[below], e)
		}
	}
	// Whoever needs another one was not used after it, and comes before it.
	depth := depths(entries)
	slices.SortStableFunc(entries, func(x, y *CacheEntry) int {
		return cmp.Or(x.effective.Compare(y.effective), cmp.Compare(depth[y], depth[x]))
	})
	for _, chosen := range []func(*CacheEntry) bool{p.useless, p.old, p.tooMuch} {
		// Without room the storage library can remove nothing: what is not in its
		// hands goes first then.
		full, err := p.removeAll(ctx, entries, chosen)
		for removed := -1; full != nil && err == nil && removed != len(p.gone); {
			removed = len(p.gone)
			full, err = p.removeAll(ctx, entries, chosen)
		}
		if err := cmp.Or(err, full); err != nil {
			return err
		}
	}
	if p.opt.DryRun {
		return nil
	}
	if p.sweep.Others == 0 {
		if err := p.b.steps.Clean(); err != nil {
			return err
		}
	}
	return p.b.spackStore().Remove(ctx, p.packages, p.sweep.Others == 0)
}

// removeAll removes those of the entries that are chosen. Full says that there
// was no room to remove some of them.
func (p *pruning) removeAll(ctx context.Context, entries []*CacheEntry, chosen func(*CacheEntry) bool) (full, err error) {
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(e.KeptBy) > 0 || p.gone[e] || !chosen(e) || p.carries(e) {
			continue
		}
		err := p.remove(e)
		switch {
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			full = err
		case err != nil:
			return nil, err
		}
	}
	return full, nil
}

// depths counts how many entries each one stands on.
func depths(entries []*CacheEntry) map[*CacheEntry]int {
	depth := map[*CacheEntry]int{}
	var of func(e *CacheEntry) int
	of = func(e *CacheEntry) int {
		if d, ok := depth[e]; ok {
			return d
		}
		d := 0
		for _, below := range e.needs {
			d = max(d, of(below)+1)
		}
		depth[e] = d
		return d
	}
	for _, e := range entries {
		of(e)
	}
	return depth
}

// carries says that something still stands on e.
func (p *pruning) carries(e *CacheEntry) bool {
	return slices.ContainsFunc(p.above[e], func(above *CacheEntry) bool { return !p.gone[above] })
}

// spared are entries that only All gives up. They keep what they stand on.
func (p *pruning) spared(e *CacheEntry) bool {
	return !p.opt.All && e.Useless == "" && (e.Kind == CacheImage || e.Kind == CacheFailed)
}

func (p *pruning) useless(e *CacheEntry) bool { return e.Useless != "" }

func (p *pruning) old(e *CacheEntry) bool {
	if p.opt.CacheLimits == (CacheLimits{}) {
		return p.opt.All
	}
	return p.opt.Older > 0 && time.Since(e.effective) > p.opt.Older
}

func (p *pruning) tooMuch(e *CacheEntry) bool {
	return p.opt.Keep > 0 && p.result.Left > p.opt.Keep && (e.Size > 0 || len(e.needs) > 0)
}

// remove removes one entry. One that somebody has begun to use stays, and what
// it stands on with it.
func (p *pruning) remove(e *CacheEntry) error {
	if !p.opt.DryRun {
		err := p.b.removeEntry(e, p.sweep)
		if errors.Is(err, lockfile.ErrHeld) {
			e.kept("somebody who has just begun to use it")
			keepBelow(e)
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove %s %.12s: %w", e.Kind, e.ID, err)
		}
	}
	p.gone[e], e.removed = true, true
	if e.Kind == CachePackage {
		p.packages[e.key] = true
	}
	p.result.Removed = append(p.result.Removed, *e)
	freed := e.Size - passOn(e)
	p.result.Freed += freed
	p.result.Left -= freed
	return nil
}

// passOn makes the sizes of layers that counted for a removed entry count for
// another one that has them, and returns their sum.
func passOn(e *CacheEntry) (size int64) {
	for _, l := range e.layers {
		last := func(owner *CacheEntry) bool { return !owner.removed }
		if counted := l.owners[len(l.owners)-1]; counted != e || !slices.ContainsFunc(l.owners, last) {
			continue
		}
		l.owners = slices.DeleteFunc(l.owners, func(owner *CacheEntry) bool { return owner.removed })
		l.owners[len(l.owners)-1].Size += l.size
		size += l.size
	}
	return size
}

func keepBelow(e *CacheEntry) {
	for _, below := range e.needs {
		if len(below.KeptBy) == 0 {
			below.KeptBy = e.KeptBy
			keepBelow(below)
		}
	}
}

// removeEntry removes what an entry stands for unless it was used since the first
// of the present users came. Packages go together later.
func (b *Builder) removeEntry(e *CacheEntry, sweep *cache.Sweep) error {
	switch e.Kind {
	case CacheStep:
		unused, err := b.steps.Discard(e.key, sweep.Since)
		if err != nil {
			return err
		}
		if !unused && e.Useless == "" {
			return lockfile.ErrHeld
		}
		err = b.removeLayers(e, sweep)
		if errors.Is(err, lockfile.ErrHeld) && e.Useless == "" {
			err = errors.Join(err, b.steps.Put(e.key, e.record)) // it is still good
		}
		return err
	case CacheLayer:
		return b.removeLayers(e, sweep)
	case CacheImage:
		return b.removeUnnamed(e, sweep.Since)
	case CacheFailed:
		_, err := b.failed.dropRecord(e.path)
		return err
	case CachePackage:
		return nil
	case CacheMount:
		if err := os.Remove(e.path + mountName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return e.remove()
}

// removeUnnamed removes an image, unless it was given a name meanwhile, but
// none of its layers: steps have made them, which may be used without it.
func (b *Builder) removeUnnamed(e *CacheEntry, since time.Time) (failed error) {
	unused, err := b.steps.Discard(e.key, since)
	if err != nil || !unused {
		return errors.Join(lockfile.ErrHeld, err)
	}
	img, err := b.store.Image(e.ID)
	if errors.Is(err, storage.ErrImageUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(img.Names) > 0 {
		return lockfile.ErrHeld
	}
	if len(e.needs) > 0 {
		// The store removes layers on which nothing stands with their image.
		wk, err := b.works.create(img.TopLayer)
		if err != nil {
			return err
		}
		defer func() { failed = errors.Join(failed, wk.release()) }()
	}
	if _, err := b.store.DeleteImage(img.ID, true); errors.Is(err, storage.ErrImageUsedByContainer) {
		return lockfile.ErrHeld
	} else if err != nil {
		return err
	}
	return nil
}

// removeTree removes a directory also where commands have made some in it that
// may not be written to.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = os.Chmod(path, 0o700) // what stays closed is what RemoveAll fails at
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	_ = eachBelow(root, "", func(in *os.Root, name string, info fs.FileInfo) {
		if info.IsDir() {
			_ = in.Chmod(filepath.Base(name), 0o700)
		}
	})
	return os.RemoveAll(path)
}

// pruneLogs removes logs that nobody will look for any more.
func (b *Builder) pruneLogs() {
	logs, err := b.logEntries()
	if err != nil {
		return // the next build tries again
	}
	for _, e := range logs {
		if e.Useless != "" {
			_ = e.remove()
		}
	}
}

// keepLimits prunes after a build, in which something was added, as much as the
// limits ask for. What this build has used stays.
func (b *Builder) keepLimits(ctx context.Context, limits CacheLimits, emit func(Event)) {
	if limits == (CacheLimits{}) {
		b.pruneLogs()
		return
	}
	res, err := b.PruneCache(ctx, PruneOptions{CacheLimits: limits, All: limits.Keep > 0})
	if err != nil {
		emit(Event{Kind: progress.Warning, Text: err.Error()})
		return
	}
	if len(res.Removed) > 0 {
		emit(Event{Kind: progress.Info, Text: fmt.Sprintf("cache: %d entries removed, %s; %s are left", len(res.Removed), quantity.Format(res.Freed), quantity.Format(res.Left))})
	}
	if limits.Keep > 0 && res.Left > limits.Keep {
		emit(Event{Kind: progress.Warning, Code: string(fail.CacheOverLimit), Text: fmt.Sprintf("the cache has %s, more than the %s that it may have; images and running builds keep %s of it", quantity.Format(res.Left), quantity.Format(limits.Keep), quantity.Format(res.Kept))})
	}
}
