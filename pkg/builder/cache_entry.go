package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// A CacheKind says what a CacheEntry is.
type CacheKind string

// The kinds of what is kept for later builds.
const (
	// CacheStep is a finished step with its layers.
	CacheStep CacheKind = "step"
	// CacheImage is an image without a name that a build has made.
	CacheImage CacheKind = "image"
	// CacheLayer is a layer of a step that was killed before it was recorded.
	CacheLayer CacheKind = "layer"
	// CacheFailed is the container of a failed step.
	CacheFailed CacheKind = "failed"
	// CachePackage is a package in the local Spack binary cache.
	CachePackage CacheKind = "package"
	// CacheSource is a source archive that Spack has fetched.
	CacheSource CacheKind = "source"
	// CacheMount is the directory of a run step's cache mount.
	CacheMount CacheKind = "mount"
	// CacheDownload is a file that a copy step has fetched.
	CacheDownload CacheKind = "download"
	// CacheLock is what a Spack environment was concretized to.
	CacheLock CacheKind = "lock"
	// CacheTool is a Spack that a recipe pins.
	CacheTool CacheKind = "spack"
	// CacheBlobs is what is remembered about compressed layers in registries.
	CacheBlobs CacheKind = "blobs"
	// CacheLog has the logs of one build.
	CacheLog CacheKind = "log"
	// CacheRest is what a killed process has left.
	CacheRest CacheKind = "rest"
)

// A CacheEntry is one thing that is kept for later builds.
type CacheEntry struct {
	Kind CacheKind `json:"kind"`
	ID   string    `json:"id"`
	Text string    `json:"text,omitempty"`
	// Size in bytes; of layers that of their files, which may share disk
	// space with other layers through hard links.
	Size    int64     `json:"size"`
	LastUse time.Time `json:"last_use"`
	// KeptBy says what needs it. Nothing of that is ever pruned.
	KeptBy []string `json:"kept_by,omitempty"`
	// Useless says why no build can use it any more.
	Useless string `json:"useless,omitempty"`

	// needs are entries that cannot go before this one.
	needs []*CacheEntry
	// effective is when the entry or anything that needs it was last used.
	effective time.Time
	// layers are those of a step, the lowest first. Other steps may have them, too.
	layers []*ownedLayer
	// removed is set when the entry is gone.
	removed bool
	// path is a file or directory, key a step's.
	path, key string
	// shared is the directory that path is in, if commands write to it: what
	// is there may be links to anything.
	shared string
	record cache.Record
}

// kept adds what keeps the entry.
func (e *CacheEntry) kept(by string) {
	if !slices.Contains(e.KeptBy, by) {
		e.KeptBy = append(e.KeptBy, by)
	}
}

// spread tells every entry who needs it through others.
func spread(entries []*CacheEntry) {
	for _, e := range entries {
		e.effective = e.LastUse
	}
	// An entry is only needed by later ones; a chain is at most as long as
	// there are entries.
	for changed := true; changed; {
		changed = false
		for _, e := range entries {
			for _, below := range e.needs {
				if below.effective.Before(e.effective) {
					below.effective, changed = e.effective, true
				}
				before := len(below.KeptBy)
				for _, by := range e.KeptBy {
					below.kept(by)
				}
				changed = changed || len(below.KeptBy) != before
			}
		}
	}
}

// aRunningBuild is what keeps all that was used since the first of the running
// builds began.
const aRunningBuild = "a running build"

// CacheEntries lists all that is kept for later builds beside images with a
// name, what was used last first.
func (b *Builder) CacheEntries(ctx context.Context) (_ []CacheEntry, err error) {
	defer func() { err = b.hostCause("look into the cache", err) }()
	sweep, err := b.users.Sweep(ctx)
	if err != nil {
		return nil, err
	}
	defer sweep.End()
	found, err := b.inventory(ctx, sweep)
	if err != nil {
		return nil, err
	}
	entries := make([]CacheEntry, len(found))
	for i, e := range found {
		entries[i] = *e
	}
	slices.SortStableFunc(entries, func(x, y CacheEntry) int { return y.LastUse.Compare(x.LastUse) })
	return entries, nil
}

// inventory lists everything, with what keeps it.
func (b *Builder) inventory(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	entries, err := b.layerEntries(ctx, sweep)
	if err != nil {
		return nil, fmt.Errorf("list the cache: %w", err)
	}
	files, err := b.fileEntries(ctx, sweep)
	if err != nil {
		return nil, fmt.Errorf("list the cache: %w", err)
	}
	entries = append(entries, files...)
	spread(entries)
	return entries, nil
}

// notices collects what has to be said once and was found where nobody
// listens.
type notices struct {
	mu    sync.Mutex
	texts []string
}

func (n *notices) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts = append(n.texts, text)
}

// tell says everything that has not been said yet.
func (n *notices) tell(emit func(Event)) {
	n.mu.Lock()
	texts := n.texts
	n.texts = nil
	n.mu.Unlock()
	for _, text := range texts {
		emit(Event{Kind: progress.Warning, Time: time.Now(), Text: text})
	}
}

// recorded returns the record under key. A damaged one is dropped, and said.
func (b *Builder) recorded(key string) (cache.Record, bool) {
	if key == "" {
		return cache.Record{}, false
	}
	rec, err := b.steps.Get(key)
	if err != nil && !errors.Is(err, cache.ErrUnknown) {
		b.notices.add(err.Error() + "; it was dropped, and the step runs again")
	}
	return rec, err == nil
}

// dropDamaged forgets a step whose result is damaged.
func (b *Builder) dropDamaged(key, text string) {
	if err := b.steps.Delete(key); err != nil {
		text += fmt.Sprintf(" (%v)", err)
	}
	b.notices.add(text)
}
