package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Dependencies say what is copied along with the packages that were chosen.
type Dependencies int

const (
	// RuntimeDependencies are those that packages link with and run with,
	// and theirs.
	RuntimeDependencies Dependencies = iota
	// AllDependencies are also those that are needed to build.
	AllDependencies
	// NoDependencies leaves all of them out.
	NoDependencies
)

// follows says whether a dependency comes along.
func (d Dependencies) follows(edge Dependency) bool {
	switch d {
	case AllDependencies:
		return true
	case NoDependencies:
		return false
	}
	return edge.Runtime() || slices.Contains(edge.Types, builtAs)
}

// CopyOptions say what Copy does. The zero value copies everything.
type CopyOptions struct {
	// Filters choose packages; one of them suffices. None chooses all.
	Filters []Filter
	// Dependencies come along.
	Dependencies Dependencies
	// DryRun copies nothing.
	DryRun bool
	// Check looks whether all is there of packages that a registry says it
	// holds, and sends what is not. In directories that is always done.
	Check bool
	// NoIndex leaves the destination's index as it is.
	NoIndex bool
	// Keys, if they are given, are those that packages have to be signed
	// with: others are left out as damaged.
	Keys *Keys
	// Progress is told about each package, from several goroutines.
	Progress func(CopyEvent)
}

// A CopyEvent is news about one package.
type CopyEvent struct {
	Package *Spec
	// Done of Total packages are dealt with, this one included.
	Done, Total int
	// Present packages had been there already.
	Present bool
	// Err says why the package was not copied.
	Err error
}

// A CopyResult says what Copy did.
type CopyResult struct {
	// Copied and Present are hashes of packages: those that were copied (or
	// would be) and those that had been there.
	Copied  []string `json:"copied"`
	Present []string `json:"present"`
	// Failed packages are damaged in the source.
	Failed []Finding `json:"failed,omitempty"`
	// Absent are dependencies that were asked for and that the source does
	// not hold.
	Absent []Dependency `json:"absent,omitempty"`
	// SentBlobs and SentBytes were transferred, MountedBlobs the registry
	// took from another repository of its own.
	SentBlobs    int   `json:"sent_blobs"`
	SentBytes    int64 `json:"sent_bytes"`
	MountedBlobs int   `json:"mounted_blobs"`
	// Index is set if the destination got a new index.
	Index *IndexResult `json:"index,omitempty"`
}

// Copy copies packages from one cache to another: only those that are not
// there. Manifests and archives stay byte for byte what they are where both
// caches are of the same kind, signatures included; else the manifests are
// made anew around the same archives. A copy of everything between directories
// takes the public keys along.
//
// A package appears in dst when all of it is there, dependencies first. Copy
// may be interrupted at any time, and called again; what has arrived is not
// sent again. At the end the index is made anew.
//
// Packages that are damaged in src are left out and make Copy return a
// *PackageError besides the result. Everything else ends it at once.
func Copy(ctx context.Context, src, dst *Cache, opt CopyOptions) (*CopyResult, error) {
	w, err := dst.writable()
	if err != nil {
		return nil, fmt.Errorf("copy to %w", err)
	}
	c := &copier{src: src, dst: dst, w: w, opt: opt, blobs: map[digest.Digest]*transfer{}, layers: map[string]*layerCall{}}
	c.result = &CopyResult{Copied: []string{}, Present: []string{}}
	if opt.Progress == nil {
		c.opt.Progress = func(CopyEvent) {}
	}
	if err := c.run(ctx); err != nil {
		return c.result, fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return c.result, c.failure
}

// A copier is one run of Copy.
type copier struct {
	src, dst *Cache
	w        writer
	opt      CopyOptions
	from, to *catalog

	// order is where packages stand among those to copy, arrived is closed when
	// they have been dealt with.
	order   map[string]int
	arrived []chan struct{}

	mu      sync.Mutex
	blobs   map[digest.Digest]*transfer
	layers  map[string]*layerCall
	known   map[string]*Spec
	done    int
	total   int
	result  *CopyResult
	failure error // the first package's that failed
}

// A transfer is a blob on its way, or there.
type transfer struct {
	once sync.Once
	err  error
}

func (c *copier) run(ctx context.Context) error {
	var err error
	if c.from, err = c.src.catalog(ctx, false); err != nil {
		return fmt.Errorf("look into %s: %w", c.src, err)
	}
	if c.to, err = c.dst.survey(ctx, false, c.from.nodes); err != nil {
		return fmt.Errorf("look into %s: %w", c.dst, err)
	}
	if d, ok := c.w.(*directory); ok && !c.opt.DryRun {
		if err := d.clean(); err != nil {
			return err
		}
	}
	c.known = maps.Clone(c.from.nodes)
	selected, err := c.choose()
	if err != nil {
		return err
	}
	c.total = len(selected)
	c.order, c.arrived = map[string]int{}, make([]chan struct{}, len(selected))
	for i, s := range selected {
		c.order[s.Hash], c.arrived[i] = i, make(chan struct{})
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(c.src.jobs, c.dst.jobs))
	for i, s := range selected {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			defer close(c.arrived[i])
			return c.one(groupCtx, s)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return c.finish(ctx)
}

// choose returns the packages to copy, dependencies first.
func (c *copier) choose() ([]*Spec, error) {
	var roots []*Spec
	for _, s := range c.from.packages() {
		if matchAny(c.opt.Filters, s) {
			roots = append(roots, s)
		}
	}
	if len(roots) == 0 && len(c.opt.Filters) > 0 {
		return nil, fmt.Errorf("%w: no package is chosen", ErrNotFound)
	}
	if len(c.opt.Filters) == 0 {
		for _, f := range c.from.unreadable() {
			c.fail(f.Hash, f.Package, errors.New(f.Detail))
		}
	}
	var selected []*Spec
	for _, s := range c.from.closure(roots, c.opt.Dependencies.follows) {
		_, stored := c.from.refs[s.Hash]
		switch {
		case stored && c.from.broken[s.Hash] == nil:
			selected = append(selected, s)
		case s.External == "" && len(c.opt.Filters) > 0:
			c.result.Absent = append(c.result.Absent, Dependency{Name: s.Name, Hash: s.Hash})
		}
	}
	return selected, nil
}

func (c *copier) fail(hash, name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Failed = append(c.result.Failed, Finding{Problem: Unreadable, Package: name, Hash: hash, Detail: err.Error()})
	if c.failure == nil {
		c.failure = &PackageError{Package: name, Err: err}
	}
}

// one deals with one package.
func (c *copier) one(ctx context.Context, s *Spec) error {
	there, err := c.present(ctx, s)
	if err != nil {
		return err
	}
	if !there && !c.opt.DryRun {
		err = c.transfer(ctx, s)
	}
	if err != nil && (!isDamage(err) || ctx.Err() != nil) {
		return &PackageError{Package: s.String(), Err: err}
	}
	if err != nil {
		c.fail(s.Hash, s.String(), err)
	}
	c.mu.Lock()
	c.done++
	event := CopyEvent{Package: s, Done: c.done, Total: c.total, Present: there, Err: err}
	switch {
	case there:
		c.result.Present = append(c.result.Present, s.Hash)
	case err == nil:
		c.result.Copied = append(c.result.Copied, s.Hash)
	}
	c.mu.Unlock()
	c.opt.Progress(event)
	return nil
}

// present says whether the destination holds the package. A registry checks
// itself that what a manifest names is there, when it gets the manifest; in a
// directory, files get lost.
func (c *copier) present(ctx context.Context, s *Spec) (bool, error) {
	r, ok := c.to.refs[s.Hash]
	if _, remote := c.w.(*repository); !ok || remote && !c.opt.Check {
		return ok, nil
	}
	m, err := c.dst.reader.manifest(ctx, r)
	if err != nil {
		if isDamage(err) {
			return false, nil
		}
		return false, err
	}
	for _, b := range m.parts {
		if size, err := c.w.stat(ctx, b); err != nil || size != b.Size {
			return false, nil //nolint:nilerr // whatever is wrong with it, it is written again
		}
	}
	return true, nil
}

// transfer copies a package that is not there.
func (c *copier) transfer(ctx context.Context, s *Spec) error {
	r := c.from.refs[s.Hash]
	m, doc, err := load(ctx, c.src.reader, r)
	if err != nil {
		return err
	}
	if err := c.opt.Keys.require(r.key, m); err != nil {
		return err
	}
	c.mu.Lock()
	for _, node := range doc.nodes {
		c.known[node.Hash] = node
	}
	c.mu.Unlock()
	switch {
	case kindOf(c.src.reader) == kindOf(c.dst.reader):
		for _, b := range m.parts {
			if err := c.send(ctx, b, c.source(ctx, b)); err != nil {
				return err
			}
		}
		return c.commit(ctx, s, r, m)
	case kindOf(c.dst.reader) == kindRegistry:
		return c.toRegistry(ctx, m, doc)
	}
	return c.toDirectory(ctx, m, doc)
}

// commit makes a package appear, once what it links and runs with is there.
func (c *copier) commit(ctx context.Context, s *Spec, r ref, m *manifest) error {
	for _, d := range s.Dependencies {
		// What stands before s was begun before it, so that it comes to its end.
		i, ok := c.order[d.Hash]
		if !ok || !d.Runtime() || i >= c.order[s.Hash] {
			continue
		}
		select {
		case <-c.arrived[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return c.w.commit(ctx, r, m)
}

// The kinds of caches whose manifests are alike.
const (
	kindLayout2 = iota
	kindLayout3
	kindRegistry
)

func kindOf(r reader) int {
	switch r.(type) {
	case *repository:
		return kindRegistry
	case *layout2:
		return kindLayout2
	}
	return kindLayout3
}

// source opens a blob of the source.
func (c *copier) source(ctx context.Context, b Blob) content {
	return func() (io.ReadCloser, error) {
		body, err := c.src.reader.open(ctx, b)
		if err != nil {
			return nil, blobError(b.Digest, err)
		}
		return body, nil
	}
}

// send brings a blob to the destination, once, if it is not there.
func (c *copier) send(ctx context.Context, b Blob, from content) error {
	c.mu.Lock()
	t := c.blobs[b.Digest]
	if t == nil {
		t = &transfer{}
		c.blobs[b.Digest] = t
	}
	c.mu.Unlock()
	t.once.Do(func() { t.err = c.sendOnce(ctx, b, from) })
	return t.err
}

func (c *copier) sendOnce(ctx context.Context, b Blob, from content) error {
	size, err := c.w.stat(ctx, b)
	if err == nil && size == b.Size {
		if d, ok := c.w.(*directory); ok {
			d.touch(b)
		}
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return blobError(b.Digest, err)
	}
	mounted := false
	src, ok := c.src.reader.(*repository)
	if dst, isRegistry := c.w.(*repository); ok && isRegistry && dst.sameRegistry(src) {
		mounted, err = dst.mount(ctx, b, src, from)
	} else {
		err = c.w.put(ctx, b, from)
	}
	if err != nil {
		return blobError(b.Digest, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if mounted {
		c.result.MountedBlobs++
		return nil
	}
	c.result.SentBlobs++
	c.result.SentBytes += b.Size
	return nil
}

// finish makes the index, unless it says already what is there.
func (c *copier) finish(ctx context.Context) error {
	if c.opt.DryRun {
		return nil
	}
	if err := c.keys(ctx); err != nil {
		return err
	}
	if c.opt.NoIndex {
		return nil
	}
	g, err := c.dst.survey(ctx, false, c.known)
	if err != nil {
		return fmt.Errorf("look into %s: %w", c.dst, err)
	}
	if g.indexed() {
		return nil
	}
	c.result.Index, err = c.dst.writeIndex(ctx, g)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// indexed says whether the index says just what the cache holds.
func (g *catalog) indexed() bool {
	if g.index == nil || len(g.index.cached) != len(g.refs)-len(g.broken) {
		return false
	}
	for hash := range g.refs {
		if !g.index.cached[hash] && g.broken[hash] == nil {
			return false
		}
	}
	return true
}
