package spack

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
)

// A Graph has specs by their hashes.
type Graph map[string]*Spec

// Closure returns the specs with the given hashes and all that they need by
// dependencies of the given types (no types are all). Dependencies come before
// what needs them; beyond that, the order is that of name, version and hash,
// whatever order the roots have. A spec that is missing, and a circle, are
// errors.
func (g Graph) Closure(roots []string, types ...DepType) ([]*Spec, error) {
	mask := maskOf(types)
	w := &walk{graph: g, mask: mask, missing: map[string]int{}, needers: map[string][]*Spec{}}
	for _, hash := range roots {
		if g[hash] == nil {
			return nil, fmt.Errorf("there is no spec with the hash %s", shorten(hash))
		}
		w.queue = append(w.queue, g[hash])
	}
	if err := w.collect(); err != nil {
		return nil, err
	}
	return w.order()
}

func maskOf(types []DepType) DepType {
	var mask DepType
	for _, t := range types {
		mask |= t
	}
	if len(types) == 0 {
		mask = Build | Link | Run | Test
	}
	return mask
}

// Compilers returns what a spec is compiled with.
func (g Graph) Compilers(s *Spec) []Compiler {
	if s.Compiler.Name != "" {
		return []Compiler{s.Compiler}
	}
	var found []Compiler
	for _, d := range s.Dependencies {
		var languages []string
		for _, language := range []string{"c", "cxx", "fortran"} {
			if d.Types&Build != 0 && slices.Contains(d.Virtuals, language) {
				languages = append(languages, language)
			}
		}
		if len(languages) == 0 {
			continue
		}
		c := Compiler{Name: d.Name, Languages: languages}
		if dep := g[d.Hash]; dep != nil {
			c.Version = dep.Version
		}
		found = append(found, c)
	}
	return found
}

// A walk finds specs and orders them.
type walk struct {
	graph   Graph
	mask    DepType
	queue   []*Spec
	ready   specHeap
	missing map[string]int     // how many dependencies of a spec are to come
	needers map[string][]*Spec // who needs a spec
}

// collect finds all specs and who needs whom.
func (w *walk) collect() error {
	for len(w.queue) > 0 {
		s := w.queue[len(w.queue)-1]
		w.queue = w.queue[:len(w.queue)-1]
		if _, seen := w.missing[s.Hash]; seen {
			continue
		}
		w.missing[s.Hash] = 0
		for _, d := range s.Dependencies {
			if d.Types&w.mask == 0 {
				continue
			}
			dep := w.graph[d.Hash]
			if dep == nil {
				return fmt.Errorf("%s depends on %s/%s, which is not there", s, d.Name, d.Hash)
			}
			w.missing[s.Hash]++
			w.needers[d.Hash] = append(w.needers[d.Hash], s)
			w.queue = append(w.queue, dep)
		}
		if w.missing[s.Hash] == 0 {
			w.ready = append(w.ready, s)
		}
	}
	return nil
}

// order takes the specs whose dependencies have all been taken.
func (w *walk) order() ([]*Spec, error) {
	specs := make([]*Spec, 0, len(w.missing))
	heap.Init(&w.ready)
	for w.ready.Len() > 0 {
		s := w.ready[0]
		heap.Pop(&w.ready)
		specs = append(specs, s)
		for _, needer := range w.needers[s.Hash] {
			if w.missing[needer.Hash]--; w.missing[needer.Hash] == 0 {
				heap.Push(&w.ready, needer)
			}
		}
		delete(w.missing, s.Hash)
	}
	var circle []*Spec
	for hash := range w.missing {
		circle = append(circle, w.graph[hash])
	}
	if len(circle) > 0 {
		return nil, fmt.Errorf("%s depends on itself", slices.MinFunc(circle, compareSpecs))
	}
	return specs, nil
}

func compareSpecs(a, b *Spec) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Hash, b.Hash))
}

// A specHeap has the first spec first.
type specHeap []*Spec

func (h specHeap) Len() int           { return len(h) }
func (h specHeap) Less(i, j int) bool { return compareSpecs(h[i], h[j]) < 0 }
func (h specHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push appends a *Spec.
func (h *specHeap) Push(s any) {
	if spec, ok := s.(*Spec); ok {
		*h = append(*h, spec)
	}
}

// Pop removes the last.
func (h *specHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
