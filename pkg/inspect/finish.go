package inspect

import (
	"archive/tar"
	"bytes"
	"cmp"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// finish works out what can be known only at the end.
func (img *Image) finish() {
	for i := range img.Layers {
		if i < len(img.Config.RootFS.DiffIDs) {
			img.Layers[i].DiffID = img.Config.RootFS.DiffIDs[i].String()
		}
	}
	img.nameSteps()
	img.table.each(func(i uint32, e *entry) {
		if e.kind == tar.TypeReg && e.inode == i && e.links == 0 {
			img.Layers[e.layer].Wasted += e.size
		}
	})
	sizes := img.directorySizes()
	for _, p := range img.Spack {
		if p.External {
			continue
		}
		p.Size = sizes[p.node]
		l := &img.Layers[p.Layer-1]
		l.Packages = append(l.Packages, p.String())
	}
}

// builtBy is how pdibuild's entries in the history begin.
const builtBy = "pdibuild: "

// nameSteps gives each layer its entry of the history.
func (img *Image) nameSteps() {
	var made []v1.History
	for _, h := range img.Config.History {
		if !h.EmptyLayer {
			made = append(made, h)
		}
	}
	// A history that speaks of fewer layers speaks of the upper ones.
	shift := len(img.Layers) - len(made)
	for i := range img.Layers {
		step, l := "", &img.Layers[i]
		if h := i - shift; h >= 0 && h < len(made) {
			step = cmp.Or(made[h].CreatedBy, made[h].Comment)
		}
		if rest, ok := strings.CutPrefix(step, builtBy); ok {
			l.By, step = "pdibuild", rest
		}
		l.Step = cmp.Or(step, "unknown")
	}
}

// directorySizes are the sums of the live files at and below each node. A file
// with several names counts once, at its first.
func (img *Image) directorySizes() []int64 {
	t := img.table
	sizes := make([]int64, len(t.nodes))
	counted := map[uint32]bool{} // contents with several names
	for n := range t.nodes {
		e := t.live(uint32(n))
		if e == nil || e.kind != tar.TypeReg {
			continue
		}
		c := t.content(e)
		if c.links > 1 {
			if counted[e.inode] {
				continue
			}
			counted[e.inode] = true
		}
		sizes[n] = c.size
	}
	// A node is always made after its parent.
	for n := len(t.nodes) - 1; n > 0; n-- {
		sizes[t.nodes[n].parent] += sizes[n]
	}
	return sizes
}

// A WasteKind says why bytes of an image serve nobody.
type WasteKind string

// The kinds of waste.
const (
	// Replaced files have another version in a later layer, Removed files are
	// there no more. Both stay in the image, where nobody sees them.
	Replaced WasteKind = "replaced"
	Removed  WasteKind = "removed"
	// Duplicate files have the content of another file that is there, too.
	Duplicate WasteKind = "duplicate"
)

// A Waste is one file that takes bytes for nothing.
type Waste struct {
	Kind WasteKind `json:"kind"`
	Path string    `json:"path"`
	// Size is what it takes for nothing.
	Size int64 `json:"size"`
	// Layer has the bytes, By is the layer that hid them.
	Layer int `json:"layer"`
	By    int `json:"by,omitempty"`
	// Of is the file that a duplicate is like.
	Of string `json:"of,omitempty"`
	// Same says that the later version has the same content: only its owner,
	// mode or time was changed.
	Same bool `json:"same,omitempty"`
}

// A Wasted is all waste of an image.
type Wasted struct {
	// Bytes that cannot be seen, Replaced + Removed, and Duplicate ones.
	Hidden    int64 `json:"hidden"`
	Replaced  int64 `json:"replaced"`
	Removed   int64 `json:"removed"`
	Duplicate int64 `json:"duplicate"`
	// Content is the sum of all files in all layers; Percent is Hidden of it.
	Content int64   `json:"content"`
	Percent float64 `json:"percent"`
	// Files, the largest first.
	Files []Waste `json:"files"`
}

// Waste finds the files that take bytes for nothing, the largest limit of
// them; less than 1 is all.
func (img *Image) Waste(limit int) Wasted {
	w := Wasted{Files: []Waste{}}
	keep := newLargest(limit, func(a, b wasted) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.entry, b.entry)) })
	t := img.table
	for _, l := range img.Layers {
		w.Content += l.Content
	}
	t.each(func(i uint32, e *entry) {
		if e.kind != tar.TypeReg || e.inode != i || e.links > 0 || e.size == 0 {
			return
		}
		w.Hidden += e.size
		if e.fate == removed {
			w.Removed += e.size
		} else {
			w.Replaced += e.size
		}
		keep.add(wasted{entry: i, of: noEntry, size: e.size})
	})
	img.duplicates(func(first, other uint32) {
		size := t.entries.at(other).size
		w.Duplicate += size
		keep.add(wasted{entry: other, of: first, size: size})
	})
	if w.Content > 0 {
		w.Percent = 100 * float64(w.Hidden) / float64(w.Content)
	}
	for _, one := range keep.sorted() {
		w.Files = append(w.Files, img.wasteOf(one))
	}
	return w
}

// A wasted is a Waste before it is spelled out.
type wasted struct {
	entry, of uint32
	size      int64
}

func (img *Image) wasteOf(one wasted) Waste {
	t := img.table
	e := t.entries.at(one.entry)
	w := Waste{Kind: Replaced, Path: t.path(e.node), Size: one.size, Layer: int(e.layer) + 1}
	switch {
	case one.of != noEntry:
		w.Kind, w.Of = Duplicate, t.path(t.entries.at(one.of).node)
		return w
	case e.fate == removed:
		w.Kind = Removed
	}
	w.By = int(e.lost) + 1
	if now := t.live(e.node); now != nil && now.kind == tar.TypeReg {
		w.Same = e.digest != [20]byte{} && t.content(now).digest == e.digest
	}
	return w
}

// smallest is the size below which files are not called duplicates: a file
// system would save nothing.
const smallest = 4 << 10

// duplicates visits the contents that are there more than once.
func (img *Image) duplicates(visit func(first, other uint32)) {
	t := img.table
	var list []uint32
	t.each(func(i uint32, e *entry) {
		// The first name may be gone while another one is there.
		if e.kind == tar.TypeReg && e.inode == i && e.links > 0 && e.size >= smallest && e.digest != [20]byte{} && t.live(e.node) == e {
			list = append(list, i)
		}
	})
	slices.SortFunc(list, func(a, b uint32) int {
		x, y := t.entries.at(a), t.entries.at(b)
		return cmp.Or(bytes.Compare(x.digest[:], y.digest[:]), cmp.Compare(a, b))
	})
	first := 0
	for i := range list {
		if t.entries.at(list[i]).digest != t.entries.at(list[first]).digest {
			first = i
		}
		if i != first {
			visit(list[first], list[i])
		}
	}
}

// largest keeps the first few of many in an order.
type largest[T any] struct {
	limit int
	order func(a, b T) int
	list  []T
}

func newLargest[T any](limit int, order func(a, b T) int) *largest[T] {
	return &largest[T]{limit: limit, order: order}
}

func (l *largest[T]) add(v T) {
	l.list = append(l.list, v)
	if l.limit > 0 && len(l.list) >= 4*l.limit+64 {
		slices.SortFunc(l.list, l.order)
		l.list = l.list[:l.limit]
	}
}

func (l *largest[T]) sorted() []T {
	slices.SortFunc(l.list, l.order)
	if l.limit > 0 && len(l.list) > l.limit {
		l.list = l.list[:l.limit]
	}
	return l.list
}
