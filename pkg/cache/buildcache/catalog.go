package buildcache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A catalog is what a cache holds, and all that is known about what its
// packages depend on.
type catalog struct {
	refs  map[string]ref
	nodes map[string]*Spec
	// broken are packages that can't be read, and why.
	broken map[string]error
	// index is what the cache's own index says; nil if it has none.
	index *index
	// indexErr says why the index could not be read, if there is one.
	indexErr error
	// absent says that there is no cache at all.
	absent bool
}

// catalog returns what is in a cache that has to exist.
func (c *Cache) catalog(ctx context.Context, fresh bool) (*catalog, error) {
	g, err := c.survey(ctx, fresh, nil)
	if err != nil {
		return nil, err
	}
	if g.absent {
		return nil, fmt.Errorf("%w: there is no binary cache", ErrNotFound)
	}
	return g, nil
}

// survey asks the cache. What the index or known says is taken from there,
// but nothing of it if fresh is set; the rest is read package by package.
func (c *Cache) survey(ctx context.Context, fresh bool, known map[string]*Spec) (*catalog, error) {
	g := &catalog{refs: map[string]ref{}, nodes: map[string]*Spec{}, broken: map[string]error{}}
	x, err := c.reader.index(ctx)
	var damage *DamageError
	switch {
	case err == nil:
		g.index = x
	case errors.As(err, &damage):
		g.indexErr = err
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	refs, err := c.reader.list(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	g.absent = err != nil && g.index == nil && g.indexErr == nil
	if !fresh {
		maps.Copy(g.nodes, known)
		if g.index != nil {
			maps.Copy(g.nodes, g.index.nodes)
		}
	}
	var unknown []ref
	whole := map[string]bool{}
	for _, r := range refs {
		g.refs[r.hash] = r
		if !g.whole(r.hash, whole) {
			unknown = append(unknown, r)
		}
	}
	return g, c.learn(ctx, g, unknown)
}

// whole says whether a package and all that it depends on are known; Spack
// refuses an index that does not describe something that it names.
func (g *catalog) whole(hash string, known map[string]bool) bool {
	if answer, ok := known[hash]; ok {
		return answer
	}
	s := g.nodes[hash]
	known[hash] = s != nil // also against cycles, which nothing sound has
	if s == nil {
		return false
	}
	for _, d := range s.edges() {
		if !g.whole(d.Hash, known) {
			known[hash] = false
		}
	}
	return known[hash]
}

// learn reads the spec files of packages.
func (c *Cache) learn(ctx context.Context, g *catalog, refs []ref) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.jobs)
	for _, r := range refs {
		group.Go(func() error {
			_, doc, err := load(ctx, c.reader, r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				g.learn(doc)
			case isDamage(err):
				g.broken[r.hash] = err
			default:
				return err
			}
			return nil
		})
	}
	return group.Wait()
}

func (g *catalog) learn(doc *document) {
	for _, s := range doc.nodes {
		if g.nodes[s.Hash] == nil {
			g.nodes[s.Hash] = s
		}
	}
}

// isDamage says that an error is about what a cache holds, not about reaching
// it.
func isDamage(err error) bool {
	var damage *DamageError
	return errors.As(err, &damage) || errors.Is(err, ErrNotFound)
}

// packages returns the packages that are there and known, sorted by name.
func (g *catalog) packages() []*Spec {
	var all []*Spec
	for hash := range g.refs {
		if s := g.nodes[hash]; s != nil && g.broken[hash] == nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, compareSpecs)
	return all
}

func compareSpecs(a, b *Spec) int {
	for _, pair := range [][2]string{{a.Name, b.Name}, {a.Version, b.Version}, {a.Hash, b.Hash}} {
		if order := strings.Compare(pair[0], pair[1]); order != 0 {
			return order
		}
	}
	return 0
}

// closure returns the packages and what they depend on, dependencies first.
func (g *catalog) closure(roots []*Spec, follow func(Dependency) bool) []*Spec {
	var order []*Spec
	seen := map[string]bool{}
	var visit func(s *Spec)
	visit = func(s *Spec) {
		if s == nil || seen[s.Hash] {
			return
		}
		seen[s.Hash] = true
		for _, d := range s.edges() {
			if follow(d) {
				visit(g.nodes[d.Hash])
			}
		}
		order = append(order, s)
	}
	for _, s := range roots {
		visit(s)
	}
	return order
}
