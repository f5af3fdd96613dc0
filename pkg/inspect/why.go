package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// A Why says why a package is in an image.
type Why struct {
	// Package, Kind (spack or debian) and whether the environment asks for it.
	Package string `json:"package"`
	Kind    string `json:"kind"`
	Root    bool   `json:"root"`
	// Dependents need it directly.
	Dependents []string `json:"dependents"`
	// Chains lead from a root to it, the shortest of each root.
	Chains [][]string `json:"chains"`
}

// A graph is packages and what they need, by keys.
type graph struct {
	keys  []string
	show  map[string]string
	root  map[string]bool
	needs map[string][]string
}

// Why says which packages need the named one: a name, name@version, or
// name/hash or /hash as Spack writes them, hashes shortened at will.
func (img *Image) Why(name string) ([]Why, error) {
	var found []Why
	g := img.spackGraph()
	for _, p := range img.Spack {
		if selects(name, p) {
			found = append(found, g.why(p.Hash, "spack"))
		}
	}
	d := img.debianGraph()
	for _, key := range d.keys {
		if key == name {
			found = append(found, d.why(key, "debian"))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no package %q", img.Name, name)
	}
	return found, nil
}

// Packages are the names that Why knows.
func (img *Image) Packages() []string {
	var names []string
	for _, p := range img.Spack {
		names = append(names, p.Name)
	}
	return append(names, img.debianGraph().keys...)
}

func selects(name string, p *SpackPackage) bool {
	name, hash, _ := strings.Cut(name, "/")
	name, version, _ := strings.Cut(name, "@")
	return (name == "" && hash != "" || name == p.Name) && (version == "" || version == p.Version) && strings.HasPrefix(p.Hash, hash)
}

func (img *Image) spackGraph() *graph {
	g := &graph{show: map[string]string{}, root: map[string]bool{}, needs: map[string][]string{}}
	for _, p := range img.Spack {
		g.keys = append(g.keys, p.Hash)
		g.show[p.Hash], g.root[p.Hash], g.needs[p.Hash] = p.String(), p.Root, p.Needs
	}
	return g
}

// debianGraph takes what no other package needs as roots.
func (img *Image) debianGraph() *graph {
	g := &graph{show: map[string]string{}, root: map[string]bool{}, needs: map[string][]string{}}
	for _, p := range img.Debian {
		if _, ok := g.show[p.Name]; !ok {
			g.keys = append(g.keys, p.Name)
		}
		g.show[p.Name], g.root[p.Name] = p.Name+" "+p.Version, true
		g.needs[p.Name] = append(g.needs[p.Name], p.Needs...)
	}
	for key, needs := range g.needs {
		for _, need := range needs {
			if need != key {
				g.root[need] = false
			}
		}
	}
	return g
}

func (g *graph) why(target, kind string) Why {
	w := Why{Package: g.show[target], Kind: kind, Root: g.root[target], Dependents: []string{}, Chains: [][]string{}}
	for _, key := range g.keys {
		if key != target && slices.Contains(g.needs[key], target) {
			w.Dependents = append(w.Dependents, g.show[key])
		}
	}
	for _, key := range g.keys {
		if g.root[key] && key != target {
			if chain := g.shortest(key, target); chain != nil {
				w.Chains = append(w.Chains, chain)
			}
		}
	}
	return w
}

// shortest is the shortest way from one package to another; nil if there is
// none.
func (g *graph) shortest(from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			var chain []string
			for ; at != ""; at = before[at] {
				chain = append(chain, g.show[at])
			}
			slices.Reverse(chain)
			return chain
		}
		for _, next := range g.needs[at] {
			if _, seen := before[next]; !seen && g.show[next] != "" {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}
