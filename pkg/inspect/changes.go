package inspect

import (
	"archive/tar"
	"cmp"
	"path"
	"slices"
	"strings"
)

// A ChangeKind is what a layer does to a path.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Gone    ChangeKind = "removed"
)

// A Change is one path that a layer adds, changes or removes.
type Change struct {
	Change ChangeKind `json:"change"`
	Path   string     `json:"path"`
	// Kind is file, directory, link, or device for all else.
	Kind string `json:"kind"`
	// Size of the file, of a removed one its former.
	Size int64 `json:"size"`
}

// Changes are what layer number (from 1) does, the largest limit files of it,
// or, if limit is less than 1, everything in the order of paths. Directories
// that are only there again are left out.
func (img *Image) Changes(number, limit int) []Change {
	type rough struct {
		kind  ChangeKind
		entry uint32
		size  int64
	}
	t, n := img.table, int32(number-1)
	keep := newLargest(limit, func(a, b rough) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.entry, b.entry)) })
	has := map[uint32]bool{}
	for i := img.counts[n].first; i < img.counts[n].end; i++ {
		e := t.entries.at(i)
		has[e.node] = true
		switch {
		case !e.before:
			keep.add(rough{Added, i, e.size})
		case e.kind != tar.TypeDir:
			keep.add(rough{Changed, i, e.size})
		}
	}
	for i := range img.counts[n].first {
		if e := t.entries.at(i); e.died == n && !has[e.node] {
			keep.add(rough{Gone, i, e.size})
		}
	}
	changes := []Change{}
	for _, r := range keep.sorted() {
		e := t.entries.at(r.entry)
		changes = append(changes, Change{Change: r.kind, Path: t.path(e.node), Kind: kindOf(e), Size: e.size})
	}
	if limit < 1 {
		slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	}
	return changes
}

func kindOf(e *entry) string {
	switch e.kind {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "link"
	}
	return "device"
}

// A Directory is a directory of the image as it is in the end.
type Directory struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// Directories are the largest ones that say something: not those in which one
// directory has nearly everything, for that one is listed.
func (img *Image) Directories(limit int) []Directory {
	t, sizes := img.table, img.directorySizes()
	keep := newLargest(limit, func(a, b uint32) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b)) })
	for n := 1; n < len(t.nodes); n++ {
		e := t.live(uint32(n))
		if e != nil && e.kind != tar.TypeDir || sizes[n] == 0 || t.nodes[n].child == noNode {
			continue
		}
		dominated := false
		for c := t.nodes[n].child; c != noNode; c = t.nodes[c].sibling {
			dominated = dominated || t.nodes[c].child != noNode && sizes[c] > sizes[n]/10*9
		}
		if !dominated {
			keep.add(uint32(n))
		}
	}
	list := []Directory{}
	for _, n := range keep.sorted() {
		list = append(list, Directory{t.path(n), sizes[n]})
	}
	return list
}

// Files counts the files and other things that are there in the end, without
// directories.
func (img *Image) Files() (n int) {
	for i := range img.table.nodes {
		if e := img.table.live(uint32(i)); e != nil && e.kind != tar.TypeDir {
			n++
		}
	}
	return n
}

// A File is one path of the image as it is in the end.
type File struct {
	Path string
	Kind string
	Size int64
	Mode uint32
	// Digest is the shortened SHA-256 of the content, "" if there is none.
	Digest string
	// Layer that it is from, from 1.
	Layer int
}

// Each visits all that is there in the end, in the order of paths; names are
// compared part by part.
func (img *Image) Each(visit func(File)) {
	t := img.table
	t.walk(rootNode, func(n uint32, e *entry) bool {
		if e != nil {
			visit(img.fileOf(n, e))
		}
		return true
	})
}

func (img *Image) fileOf(n uint32, e *entry) File {
	c := img.table.content(e)
	f := File{Path: img.table.path(n), Kind: kindOf(e), Size: c.size, Mode: e.mode, Layer: int(e.layer) + 1}
	if c.digest != [20]byte{} {
		f.Digest = string(c.digest[:])
	}
	return f
}

// matches says that a path fits a pattern: * and ? within a part, ** any
// number of parts; a pattern without / fits the last part alone. A directory's
// pattern does not cover what is below: write /**.
func matches(pattern, name string) bool {
	if !strings.Contains(pattern, "/") {
		ok, err := path.Match(pattern, path.Base(name))
		return err == nil && ok
	}
	return matchParts(strings.Split(strings.Trim(pattern, "/"), "/"), strings.Split(strings.Trim(name, "/"), "/"))
}

func matchParts(pattern, parts []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			if len(pattern) == 1 {
				return len(parts) > 0
			}
			for i := range parts {
				if matchParts(pattern[1:], parts[i:]) {
					return true
				}
			}
			return false
		}
		if len(parts) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], parts[0]); err != nil || !ok {
			return false
		}
		pattern, parts = pattern[1:], parts[1:]
	}
	return len(parts) == 0
}
