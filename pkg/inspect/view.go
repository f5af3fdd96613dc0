package inspect

import (
	"archive/tar"
	"strings"
)

// Unmodified is what a layer does to a path that it leaves alone.
const Unmodified ChangeKind = "unmodified"

// A View shows the files as they are after some layer, and what that layer has
// done to them. It is made for looking around: At computes it anew for another
// layer in one pass over all paths.
type View struct {
	img *Image
	// last is the newest entry of each node, older the one before each entry.
	last, older []uint32

	layer  int32
	own    []bool // the layer does something to the path itself
	shows  []bool // filters let it through
	change []ChangeKind
	entry  []uint32
	sizes  []int64
}

// A Row is one path of a View.
type Row struct {
	// Node identifies the path.
	Node uint32
	// Depth is 0 for what is in /.
	Depth int
	// Name is safe to be shown.
	Name   string
	Change ChangeKind
	Kind   string
	// Size of a directory is that of all files in it.
	Size     int64
	Mode     uint32
	UID, GID uint32
	// Folder says that there is something in it.
	Folder bool
}

// NewView shows the image after its last layer.
func NewView(img *Image) *View {
	t := img.table
	v := &View{
		img: img, last: make([]uint32, len(t.nodes)), older: make([]uint32, t.entries.n),
		own: make([]bool, len(t.nodes)), shows: make([]bool, len(t.nodes)), change: make([]ChangeKind, len(t.nodes)),
		entry: make([]uint32, len(t.nodes)), sizes: make([]int64, len(t.nodes)),
	}
	for n := range v.last {
		v.last[n] = noEntry
	}
	t.each(func(i uint32, e *entry) {
		v.older[i], v.last[e.node] = v.last[e.node], i
	})
	v.At(len(img.Layers))
	return v
}

// At shows the files after a layer, from 1.
func (v *View) At(number int) {
	t := v.img.table
	v.layer = int32(number - 1)
	for n := range t.nodes {
		v.place(uint32(n))
	}
	// A node comes after its parent.
	for n := len(t.nodes) - 1; n > 0; n-- {
		p := t.nodes[n].parent
		if v.change[n] == "" {
			continue
		}
		if v.change[n] != Gone {
			v.sizes[p] += v.sizes[n]
		}
		switch {
		case v.change[p] == "" && v.entry[p] == noEntry:
			v.change[p] = v.change[n] // no layer has the directory itself
		case v.change[p] != v.change[n] && !v.own[p]:
			v.change[p] = Changed
		}
	}
	v.Filter(nil, "")
}

// place finds what is at a node after the layer.
func (v *View) place(n uint32) {
	t := v.img.table
	v.change[n], v.own[n], v.entry[n], v.sizes[n] = "", false, noEntry, 0
	for i := v.last[n]; i != noEntry; i = v.older[i] {
		e := t.entries.at(i)
		if int32(e.layer) > v.layer {
			continue
		}
		gone := e.died >= 0 && e.died <= v.layer
		if gone && e.died < v.layer {
			return
		}
		v.entry[n] = i
		switch {
		case gone:
			v.change[n], v.own[n] = Gone, true
		case int32(e.layer) < v.layer, e.before && e.kind == tar.TypeDir:
			v.change[n] = Unmodified
		case e.before:
			v.change[n], v.own[n] = Changed, true
		default:
			v.change[n], v.own[n] = Added, true
		}
		v.sizes[n] = t.content(e).size
		return
	}
}

// Filter chooses the rows: without hidden kinds of changes, and with paths for
// which match is true; nil is all. A directory is there if something in it is.
func (v *View) Filter(match func(path string) bool, hidden ...ChangeKind) {
	t := v.img.table
	hides := map[ChangeKind]bool{}
	for _, k := range hidden {
		hides[k] = k != ""
	}
	clear(v.shows)
	for n := len(t.nodes) - 1; n > 0; n-- {
		k := v.change[n]
		if k == "" {
			continue
		}
		if !v.shows[n] && !hides[k] {
			v.shows[n] = match == nil || match(t.path(uint32(n)))
		}
		if v.shows[n] {
			v.shows[t.nodes[n].parent] = true
		}
	}
}

// Rows lists what the filters let through, but what is in collapsed nodes.
func (v *View) Rows(collapsed map[uint32]bool) []Row {
	var rows []Row
	v.rows(rootNode, 0, collapsed, &rows)
	return rows
}

func (v *View) rows(n uint32, depth int, collapsed map[uint32]bool, rows *[]Row) {
	for _, c := range v.img.table.children(n) {
		if !v.shows[c] {
			continue
		}
		*rows = append(*rows, v.row(c, depth))
		if !collapsed[c] {
			v.rows(c, depth+1, collapsed, rows)
		}
	}
}

func (v *View) row(n uint32, depth int) Row {
	t := v.img.table
	r := Row{Node: n, Depth: depth, Name: shown(t.names[t.nodes[n].name]), Change: v.change[n], Size: v.sizes[n], Kind: "directory", Mode: 0o755}
	if v.entry[n] != noEntry {
		e := t.entries.at(v.entry[n])
		r.Kind, r.Mode, r.UID, r.GID = kindOf(e), e.mode, e.uid, e.gid
	}
	for c := t.nodes[n].child; c != noNode && !r.Folder; c = t.nodes[c].sibling {
		r.Folder = v.shows[c]
	}
	return r
}

// Path of a row, safe to be shown.
func (v *View) Path(n uint32) string { return shownPath(v.img.table.path(n)) }

// Folders are the nodes that have others below, for collapsing all.
func (v *View) Folders() []uint32 {
	var list []uint32
	for n := range v.img.table.nodes {
		if n > 0 && v.img.table.nodes[n].child != noNode {
			list = append(list, uint32(n))
		}
	}
	return list
}

// ShownStep is what made a layer, in one line that is safe to be shown.
func (l Layer) ShownStep() string { return shown(strings.Join(strings.Fields(l.Step), " ")) }
