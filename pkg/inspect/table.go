package inspect

import (
	"archive/tar"
	"path"
	"slices"
	"strings"
)

// noNode and noEntry stand for nothing.
const (
	noNode  = ^uint32(0)
	noEntry = ^uint32(0)
)

// rootNode is the directory /.
const rootNode = uint32(0)

// A node is a path that some layer has. Nodes form the tree of all paths, also
// of those that are not there any more.
type node struct {
	parent, child, sibling uint32
	name                   uint32 // index of table.names
	entry                  uint32 // what is at the path now, noEntry if nothing
	gone                   int32  // the layer that last removed or replaced what was there
}

// An entry is one file, directory or link as one layer has it.
type entry struct {
	node   uint32
	inode  uint32 // the entry with the content; a hard link's is another one
	links  uint32 // how many live names the content has
	died   int32  // the layer that removed or replaced it; -1 while it is there
	lost   int32  // the layer that took the content's last name
	layer  uint16
	kind   byte // of archive/tar
	fate   fate // of the content
	before bool // a lower layer has something at the path
	mode   uint32
	uid    uint32
	gid    uint32
	size   int64
	digest [20]byte // of the content, shortened; zero if not known
}

// A fate says how an entry went.
type fate byte

const (
	alive    fate = iota
	replaced      // a later layer has the same path
	removed       // a later layer has a whiteout for it
)

// A table has all entries of all layers. 10⁶ files take about 120 MB.
type table struct {
	nodes   []node
	entries chunks
	lookup  map[uint64]uint32 // parent and name to node
	names   []string
	nameIDs map[string]uint32
}

func newTable() *table {
	t := &table{lookup: map[uint64]uint32{}, nameIDs: map[string]uint32{"": 0}, names: []string{""}}
	t.nodes = []node{{parent: noNode, child: noNode, sibling: noNode, entry: noEntry, gone: -1}}
	return t
}

// chunkSize entries are kept together, so that growing copies nothing.
const chunkSize = 4096

// chunks is a list of entries that does not move them.
type chunks struct {
	full []*[chunkSize]entry
	n    uint32
}

func (c *chunks) add(e entry) uint32 {
	if c.n%chunkSize == 0 {
		c.full = append(c.full, new([chunkSize]entry))
	}
	c.full[c.n/chunkSize][c.n%chunkSize] = e
	c.n++
	return c.n - 1
}

func (c *chunks) at(i uint32) *entry { return &c.full[i/chunkSize][i%chunkSize] }

// cleanPath makes a path within / of any name.
func cleanPath(name string) string { return path.Clean("/" + name) }

// find returns the node of a clean path, noNode if no layer has it.
func (t *table) find(clean string) uint32 {
	n := rootNode
	for part := range strings.SplitSeq(strings.Trim(clean, "/"), "/") {
		if part == "" {
			continue
		}
		id, ok := t.nameIDs[part]
		if !ok {
			return noNode
		}
		if n, ok = t.lookup[uint64(n)<<32|uint64(id)]; !ok {
			return noNode
		}
	}
	return n
}

// make returns the node of a clean path and makes those that are missing.
func (t *table) make(clean string) uint32 {
	n := rootNode
	for part := range strings.SplitSeq(strings.Trim(clean, "/"), "/") {
		if part == "" {
			continue
		}
		id, ok := t.nameIDs[part]
		if !ok {
			id = uint32(len(t.names))
			part = strings.Clone(part)
			t.names, t.nameIDs[part] = append(t.names, part), id
		}
		key := uint64(n)<<32 | uint64(id)
		next, ok := t.lookup[key]
		if !ok {
			next = uint32(len(t.nodes))
			t.nodes = append(t.nodes, node{parent: n, child: noNode, sibling: t.nodes[n].child, name: id, entry: noEntry, gone: -1})
			t.nodes[n].child = next
			t.lookup[key] = next
		}
		n = next
	}
	return n
}

// path returns the path of a node.
func (t *table) path(n uint32) string {
	var parts []string
	for ; n != rootNode && n != noNode; n = t.nodes[n].parent {
		parts = append(parts, t.names[t.nodes[n].name])
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// live returns what is at a node, nil if nothing is.
func (t *table) live(n uint32) *entry {
	if n == noNode || t.nodes[n].entry == noEntry {
		return nil
	}
	return t.entries.at(t.nodes[n].entry)
}

// content is the entry that has the bytes of e.
func (t *table) content(e *entry) *entry { return t.entries.at(e.inode) }

// put adds an entry of a layer. What was at its path goes; what was below it
// goes, too, unless both are directories: gone is told of it.
func (t *table) put(e entry, gone func(n uint32)) *entry {
	before := t.nodes[e.node].gone == int32(e.layer)
	if old := t.live(e.node); old != nil {
		if old.layer < e.layer {
			before = true
		}
		if old.kind == tar.TypeDir && e.kind != tar.TypeDir {
			t.killBelow(e.node, killing{layer: e.layer, below: e.layer + 1, how: replaced, gone: gone})
		}
		t.kill(e.node, e.layer, replaced)
	}
	e.died, e.lost, e.before = -1, -1, before
	index := t.entries.add(e)
	stored := t.entries.at(index)
	if stored.inode == noEntry {
		stored.inode = index
	}
	t.content(stored).links++
	t.nodes[e.node].entry = index
	return stored
}

// kill ends what is at a node itself.
func (t *table) kill(n uint32, layer uint16, how fate) {
	e := t.live(n)
	if e == nil {
		return
	}
	e.died = int32(layer)
	c := t.content(e)
	if c.links--; c.links == 0 {
		c.lost, c.fate = int32(layer), how
	}
	t.nodes[n].entry = noEntry
	if e.layer < layer {
		t.nodes[n].gone = int32(layer)
	}
}

// A killing is by a layer, of what layers lower than below have.
type killing struct {
	layer, below uint16
	how          fate
	gone         func(n uint32)
}

// killBelow ends what is below a node.
func (t *table) killBelow(n uint32, k killing) {
	for c := t.nodes[n].child; c != noNode; c = t.nodes[c].sibling {
		t.killBelow(c, k)
		if e := t.live(c); e != nil && e.layer < k.below {
			t.kill(c, k.layer, k.how)
			k.gone(c)
		}
	}
}

// walk visits the live entries below a node in the order of names, parents
// first; the function says whether to go on below.
func (t *table) walk(n uint32, visit func(n uint32, e *entry) bool) {
	for _, c := range t.children(n) {
		if visit(c, t.live(c)) {
			t.walk(c, visit)
		}
	}
}

// children are the nodes right below one, in the order of their names.
func (t *table) children(n uint32) []uint32 {
	var list []uint32
	for c := t.nodes[n].child; c != noNode; c = t.nodes[c].sibling {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b uint32) int {
		return strings.Compare(t.names[t.nodes[a].name], t.names[t.nodes[b].name])
	})
	return list
}

// each visits all entries of all layers in the order in which they came.
func (t *table) each(visit func(i uint32, e *entry)) {
	for i := range t.entries.n {
		visit(i, t.entries.at(i))
	}
}
