package layer

import (
	"archive/tar"
	"io"
	"maps"
	"time"
)

// A node is an Entry in a Tree. There may be a million of them, so it keeps
// what layers keep of a header (see canonical), in half the room.
type node struct {
	place    place
	link     string
	size     int64
	modified int64 // in seconds since 1970
	mode     int64
	uid, gid int
	kind     byte
	more     *rareAttributes // nil if the entry has none
	open     func() (io.ReadCloser, error)
	origin   Origin
}

// rareAttributes are what few entries have.
type rareAttributes struct {
	major, minor int64
	pax          map[string]string
	// file is the one that this is a name of; nil where only the link is known.
	file *node
}

// newNode returns a node that shares nothing with the entry's header.
func newNode(e Entry, p place) *node {
	h := &e.Header
	n := &node{
		place: p, link: h.Linkname, size: h.Size, modified: h.ModTime.Unix(), mode: h.Mode,
		uid: h.Uid, gid: h.Gid, kind: h.Typeflag, open: e.Open, origin: e.Origin,
	}
	if h.Devmajor != 0 || h.Devminor != 0 || len(h.PAXRecords) > 0 {
		n.more = &rareAttributes{major: h.Devmajor, minor: h.Devminor, pax: maps.Clone(h.PAXRecords)}
	}
	return n
}

// header returns a header of its own.
func (n *node) header() *tar.Header {
	h := &tar.Header{
		Typeflag: n.kind, Name: n.place.name, Linkname: n.link, Size: n.size, Mode: n.mode,
		Uid: n.uid, Gid: n.gid, ModTime: time.Unix(n.modified, 0),
	}
	if n.more != nil {
		h.Devmajor, h.Devminor, h.PAXRecords = n.more.major, n.more.minor, maps.Clone(n.more.pax)
	}
	return h
}
