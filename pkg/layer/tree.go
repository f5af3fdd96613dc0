package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
)

// An Entry is a file, directory or link of a Tree.
type Entry struct {
	// Header needs Typeflag, Name and what belongs to the type; the rest is
	// optional. Extended attributes are PAX records "SCHILY.xattr.NAME".
	Header tar.Header
	// Open gives the content of a regular file: Header.Size bytes. It is
	// called when the file is written. Nil is right for size 0, and where
	// Origin has the content.
	Open func() (io.ReadCloser, error)
	// Origin is the file that has the content, where Stage may use it.
	Origin Origin
}

// Bytes is the content of an Entry that is in memory.
func Bytes(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
}

// File is the content of an Entry that is in a file.
func File(name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(name) }
}

// A Tree collects the entries of a layer in any order. The zero value is
// empty. It keeps headers in memory, contents stay where they are.
type Tree struct {
	nodes map[string]*node // by clean name
	root  *node
}

// Add adds a file, directory or link; it replaces one of the same name. A hard
// link may come before or after its target. The root directory is left out. A
// name that would be a whiteout is a *ReservedError.
func (t *Tree) Add(e Entry) error {
	p, err := fileAt(e.Header.Name)
	if err != nil {
		return err
	}
	t.put(p, e)
	return nil
}

// An Inode is a file of a Tree, which keeps its further names when another one
// takes its first.
type Inode struct{ node *node }

// AddFile is like Add and returns the file, for AddName.
func (t *Tree) AddFile(e Entry) (Inode, error) {
	p, err := fileAt(e.Header.Name)
	if err != nil {
		return Inode{}, err
	}
	return Inode{t.put(p, e)}, nil
}

// AddName adds a further name of a file, a hard link.
func (t *Tree) AddName(name string, of Inode) error {
	p, err := fileAt(name)
	if err != nil {
		return err
	}
	link := t.put(p, Entry{Header: tar.Header{Typeflag: tar.TypeLink, Linkname: of.node.place.name}})
	link.more = &rareAttributes{file: of.node}
	return nil
}

// Has reports whether a file has that name in the tree.
func (t *Tree) Has(name string, file Inode) bool {
	clean, err := cleanName(name)
	n := t.nodes[clean]
	return err == nil && n != nil && (n == file.node || n.more != nil && n.more.file == file.node && file.node != nil)
}

// Lookup returns the type of an entry's file and, of a symbolic link, its
// target.
func (t *Tree) Lookup(name string) (kind byte, target string, ok bool) {
	clean, err := cleanName(name)
	n := t.nodes[clean]
	switch {
	case err != nil || n == nil || n.place.whiteout:
		return 0, "", false
	case n.kind == tar.TypeSymlink:
		return n.kind, n.link, true
	case n.kind == tar.TypeLink:
		return tar.TypeReg, "", true
	}
	return n.kind, "", true
}

// AddRoot adds an entry for the root directory, whose name does not matter. It
// is for a root that is not as in the layers below: Add takes none.
func (t *Tree) AddRoot(e Entry) { t.root = newNode(e, place{name: "."}) }

// Remove adds the whiteout of a file of the layers below.
func (t *Tree) Remove(name string) error {
	p, err := whiteoutOf(name)
	if err != nil {
		return err
	}
	t.put(p, Entry{Header: tar.Header{Typeflag: tar.TypeReg}})
	return nil
}

// RemoveBelow adds the whiteout of all that the layers below have in a
// directory.
func (t *Tree) RemoveBelow(dir string) error {
	p, err := opaqueAt(dir)
	if err != nil {
		return err
	}
	t.put(p, Entry{Header: tar.Header{Typeflag: tar.TypeReg}})
	return nil
}

func (t *Tree) put(p place, e Entry) *node {
	n := newNode(e, p)
	if p.name == "" {
		return n // the root directory has no entry here
	}
	if t.nodes == nil {
		t.nodes = map[string]*node{}
	}
	t.nodes[p.name] = n
	return n
}

// Len returns the number of entries.
func (t *Tree) Len() int {
	if t.root != nil {
		return len(t.nodes) + 1
	}
	return len(t.nodes)
}

// MissingParents returns, in canonical order, the directories above entries
// for which there is no entry. Stores make such directories with default
// owner and mode when they unpack the layer, also where a layer below has
// them otherwise: add those directories as they are below.
func (t *Tree) MissingParents() []string {
	missing := map[string]bool{}
	for _, n := range t.nodes {
		for dir := path.Dir(n.place.name); dir != "." && !missing[dir]; dir = path.Dir(dir) {
			if t.nodes[dir] == nil {
				missing[dir] = true
			}
		}
	}
	var names []string
	for name := range missing {
		names = append(names, name)
	}
	slices.SortFunc(names, comparePaths)
	return names
}

// Encode writes the tree to dst in canonical form. Options.Scratch is not
// used. What has been written to dst before an error is worthless.
func (t *Tree) Encode(dst io.Writer, opt Options) (Stats, error) {
	t, err := t.withoutOpaque(opt.Lower)
	if err != nil {
		return Stats{}, err
	}
	return t.encode(newEncoder(dst, opt))
}

func (t *Tree) encode(enc *encoder) (Stats, error) {
	nodes := t.sorted(enc.opt.Skip)
	links, err := t.resolveLinks(nodes)
	if err != nil {
		return enc.stats, err
	}
	if t.root != nil {
		if err := enc.addRoot(t.root.header()); err != nil {
			return enc.stats, err
		}
	}
	for _, n := range nodes {
		hdr, file := links.apply(n)
		if err := addNode(enc, hdr, file); err != nil {
			return enc.stats, err
		}
	}
	return enc.close()
}

// withoutOpaque returns a tree with the meaning of t in which no directory is
// opaque.
func (t *Tree) withoutOpaque(lower func(string) ([]string, error)) (*Tree, error) {
	if lower == nil {
		return t, nil
	}
	plain := &Tree{nodes: maps.Clone(t.nodes), root: t.root}
	for name, n := range t.nodes {
		if path.Base(name) != opaqueName {
			continue
		}
		delete(plain.nodes, name)
		if err := plain.hide(n.place.subject, lower); err != nil {
			return nil, err
		}
	}
	return plain, nil
}

// hide adds whiteouts for all that is below in the directory but not in t.
func (t *Tree) hide(dir string, lower func(string) ([]string, error)) error {
	names, err := lower(dir)
	if err != nil {
		return fmt.Errorf("list %q in the layers below: %w", dir, err)
	}
	for _, base := range names {
		name := path.Join(dir, base)
		n := t.nodes[name]
		switch {
		case n == nil:
			err = t.Remove(name)
		case n.kind == tar.TypeDir:
			err = t.hide(name, lower)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sorted returns the nodes that are not skipped.
func (t *Tree) sorted(skip func(string) bool) []*node {
	nodes := make([]*node, 0, len(t.nodes))
	for _, n := range t.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return a.place.compare(b.place) })
	s := skipper{ask: skip}
	return slices.DeleteFunc(nodes, func(n *node) bool { return s.drops(n.place) })
}

func addNode(enc *encoder, hdr *tar.Header, file *node) (err error) {
	if hdr.Size == 0 || !isRegular(hdr) {
		return enc.add(hdr, nil, file.origin)
	}
	open := file.open
	if open == nil && file.origin.Root != nil {
		open = file.origin.open
	}
	if open == nil {
		return fmt.Errorf("layer entry %q: has a size but no content", hdr.Name)
	}
	content, err := open()
	if err != nil {
		return fmt.Errorf("layer entry %q: %w", hdr.Name, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return enc.add(hdr, content, file.origin)
}

// links knows the hard-linked files of a tree.
type links struct {
	// file is the node with the attributes and content of each name.
	file map[*node]*node
	// first is the first name of each such file.
	first map[*node]string
}

func (t *Tree) resolveLinks(nodes []*node) (links, error) {
	l := links{file: map[*node]*node{}, first: map[*node]string{}}
	for _, n := range nodes {
		if n.kind != tar.TypeLink || n.place.whiteout {
			continue
		}
		file, err := t.linkTarget(n)
		if err != nil {
			return links{}, err
		}
		l.file[n], l.file[file] = file, file
	}
	for _, n := range nodes {
		file := l.file[n]
		if file == nil {
			continue
		}
		if _, ok := l.first[file]; !ok {
			l.first[file] = n.place.name
		}
	}
	return l, nil
}

// linkTarget follows a hard link, and links to links.
func (t *Tree) linkTarget(link *node) (*node, error) {
	n := link
	for range len(t.nodes) {
		if n.more != nil && n.more.file != nil {
			return n.more.file, nil
		}
		name, err := cleanName(n.link)
		if err != nil {
			return nil, fmt.Errorf("hard link %q: %w", link.place.name, err)
		}
		n = t.nodes[name]
		if n == nil || n.place.whiteout || n.kind == tar.TypeDir {
			return nil, fmt.Errorf("hard link %q: there is no file %q in this layer", link.place.name, name)
		}
		if n.kind != tar.TypeLink {
			return n, nil
		}
	}
	return nil, fmt.Errorf("hard link %q: leads to itself", link.place.name)
}

// apply returns the header with which n has to be written, and the node that
// has its content.
func (l links) apply(n *node) (*tar.Header, *node) {
	file := l.file[n]
	if file == nil {
		return n.header(), n
	}
	hdr := file.header()
	hdr.Name = n.place.name
	if first := l.first[file]; first != n.place.name {
		hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
	}
	return hdr, file
}
