package inspect

import (
	"archive/tar"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Diff is what differs between two images.
type Diff struct {
	A    Side `json:"a"`
	B    Side `json:"b"`
	Same bool `json:"same"`
	// SharedLayers counts the layers at the bottom that are the same, and
	// SharedSize is their size: what a registry or host that has A needs not
	// fetch for B.
	SharedLayers int   `json:"shared_layers"`
	SharedSize   int64 `json:"shared_size"`
	// Config are the differing settings, Packages the packages.
	Config   []Difference `json:"config"`
	Packages []Difference `json:"packages"`
	// Added, Changed and Removed count paths; Files are the largest of them.
	Added   int          `json:"added"`
	Changed int          `json:"changed"`
	Removed int          `json:"removed"`
	Files   []FileChange `json:"files"`
}

// A Side is one of two images.
type Side struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Size   int64  `json:"size"`
	Layers int    `json:"layers"`
	Files  int    `json:"files"`
}

// A Difference is one thing that the images have differently; "" is nothing.
type Difference struct {
	What string `json:"what"`
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
}

// A FileChange is a path that the images have differently.
type FileChange struct {
	Change ChangeKind `json:"change"`
	Path   string     `json:"path"`
	// SizeA and SizeB are 0 where the path is not there.
	SizeA int64 `json:"size_a"`
	SizeB int64 `json:"size_b"`
	// What differs: content, mode, owner, kind.
	What string `json:"what,omitempty"`
}

// Compare finds what differs; at most limit files are listed, those with the
// largest difference, or all if limit is less than 1.
func Compare(a, b *Image, limit int) *Diff {
	d := &Diff{A: sideOf(a), B: sideOf(b), Config: []Difference{}, Packages: []Difference{}, Files: []FileChange{}}
	for i := range min(len(a.Layers), len(b.Layers)) {
		x, y := a.Layers[i], b.Layers[i]
		if x.DiffID != y.DiffID || x.DiffID == "" {
			break
		}
		d.SharedLayers++
		d.SharedSize += y.Size
	}
	d.Config = append(d.Config, differences(settings(a), settings(b))...)
	d.Packages = append(d.Packages, differences(versions(a), versions(b))...)
	c := &comparison{a: a.table, b: b.table, diff: d, keep: newLargest(limit, func(x, y FileChange) int {
		return cmp.Or(cmp.Compare(max(y.SizeA, y.SizeB), max(x.SizeA, x.SizeB)), strings.Compare(x.Path, y.Path))
	})}
	c.below(rootNode, rootNode)
	d.Files = append(d.Files, c.keep.sorted()...)
	d.Same = len(d.Config)+len(d.Packages)+d.Added+d.Changed+d.Removed == 0
	return d
}

func sideOf(img *Image) Side {
	s := Side{Name: img.Name, ID: img.ID, Layers: len(img.Layers), Files: img.Files()}
	for _, l := range img.Layers {
		s.Size += l.Size
	}
	return s
}

// settings are the configuration as texts.
func settings(img *Image) map[string]string {
	c := configurationOf(img)
	m := map[string]string{
		"user": c.User, "workdir": c.Workdir, "stop signal": c.StopSignal, "platform": platform(img.Config.Platform),
		"entrypoint": words(c.Entrypoint), "cmd": words(c.Cmd), "ports": words(c.Ports), "volumes": words(c.Volumes),
	}
	for _, kv := range c.Env {
		name, value, _ := strings.Cut(kv, "=")
		m["env "+name] = value
	}
	for name, value := range c.Labels {
		m["label "+name] = value
	}
	for name, value := range c.Annotations {
		m["annotation "+name] = value
	}
	return m
}

func words(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", list)
}

// versions are the packages with their versions. Several of one name are
// together.
func versions(img *Image) map[string]string {
	m := map[string]string{}
	add := func(key, value string) { m[key] = strings.TrimPrefix(m[key]+", "+value, ", ") }
	for _, p := range img.Spack {
		add("spack "+p.Name, strings.TrimPrefix(p.String(), p.Name+"@"))
	}
	for _, p := range img.Debian {
		add("debian "+p.Name, p.Version)
	}
	return m
}

func differences(a, b map[string]string) []Difference {
	all := map[string]bool{}
	for key := range a {
		all[key] = true
	}
	for key := range b {
		all[key] = true
	}
	var list []Difference
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if a[key] != b[key] {
			list = append(list, Difference{key, a[key], b[key]})
		}
	}
	return list
}

// A comparison goes through two trees of files.
type comparison struct {
	a, b *table
	diff *Diff
	keep *largest[FileChange]
}

// below compares what is below two nodes; noNode has nothing.
func (c *comparison) below(a, b uint32) {
	names := map[string][2]uint32{}
	if a != noNode {
		for n := c.a.nodes[a].child; n != noNode; n = c.a.nodes[n].sibling {
			names[c.a.names[c.a.nodes[n].name]] = [2]uint32{n, noNode}
		}
	}
	if b != noNode {
		for n := c.b.nodes[b].child; n != noNode; n = c.b.nodes[n].sibling {
			name := c.b.names[c.b.nodes[n].name]
			pair, ok := names[name]
			if !ok {
				pair[0] = noNode
			}
			pair[1] = n
			names[name] = pair
		}
	}
	for _, pair := range names {
		c.path(pair[0], pair[1])
		c.below(pair[0], pair[1])
	}
}

func (c *comparison) path(a, b uint32) {
	x, y := c.a.live(a), c.b.live(b)
	f := FileChange{}
	switch {
	case x == nil && y == nil:
		return
	case x == nil:
		f.Change, f.Path, f.SizeB = Added, c.b.path(b), c.b.content(y).size
		c.diff.Added++
	case y == nil:
		f.Change, f.Path, f.SizeA = Gone, c.a.path(a), c.a.content(x).size
		c.diff.Removed++
	default:
		cx, cy := c.a.content(x), c.b.content(y)
		if f.What = unlike(x, y, cx, cy); f.What == "" {
			return
		}
		f.Change, f.Path, f.SizeA, f.SizeB = Changed, c.a.path(a), cx.size, cy.size
		c.diff.Changed++
	}
	c.keep.add(f)
}

// unlike says what two entries and their contents have differently.
func unlike(x, y, cx, cy *entry) string {
	switch {
	case x.kind != y.kind:
		return "kind"
	case x.kind == tar.TypeReg && (cx.size != cy.size || cx.digest != cy.digest), x.kind == tar.TypeSymlink && x.digest != y.digest:
		return "content"
	case x.mode != y.mode:
		return "mode"
	case x.uid != y.uid || x.gid != y.gid:
		return "owner"
	}
	return ""
}
