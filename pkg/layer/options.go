package layer

import (
	"archive/tar"
	"fmt"
	"io"
	"time"
)

// Options change what is written. With the zero value every time is 1970 and
// every entry is kept.
type Options struct {
	// Epoch is the latest modification time that an entry may have. Later
	// ones become Epoch. The zero value is 1 January 1970.
	Epoch time.Time

	// OneTime gives every entry Epoch as its modification time, not only
	// those that have a later one: for files whose times say how they came
	// here and nothing about what they are.
	OneTime bool

	// Skip drops the entry of a path and everything below it, for example
	// the mount points that a command has left. It is asked with clean
	// relative paths ("run/secrets"); a whiteout is about the path it hides.
	Skip func(path string) bool

	// Changed reports whether a directory's attributes differ from those in
	// the layer below. It is asked for each directory that has nothing below
	// it in this layer; false drops the entry. (Overlay puts directories into
	// a layer that have only been touched; other drivers do not.) Nil keeps
	// all.
	Changed func(hdr *tar.Header) bool

	// Hides reports whether the layers below have what a whiteout of this
	// path is about; false drops the whiteout. (fuse-overlayfs makes one for
	// each name that is removed, also for those that were never below.) Nil
	// keeps all.
	Hides func(path string) bool

	// Owner may set Uid and Gid of the header, which is in canonical form
	// apart from that. The attribute user.pdibuild.owner has been applied
	// before. It is not asked for whiteouts.
	Owner func(hdr *tar.Header)

	// Below reports whether a regular file of this path comes unchanged
	// from a layer below. It is asked for sources of Python byte code: the
	// byte code names the time of its source, which is clamped to Epoch in
	// this layer but not in those below. Nil means that all are here.
	Below func(path string) bool

	// Lower lists the names in a directory as it is in the layers below, and
	// nothing where that is not a directory. With it, an opaque whiteout is
	// replaced by whiteouts of the names that it hides: the form that every
	// storage driver can give. It takes a Tree, or Normalize with Scratch.
	// Nil keeps opaque whiteouts.
	Lower func(dir string) ([]string, error)

	// Inspect sees every entry as it is written, and can stop it.
	Inspect Inspector

	// Scratch lets Normalize accept entries in any order: it is filled
	// with the contents of src before anything is written. A new temporary
	// *os.File will do; the caller removes it. Without it contents are
	// never stored, entries out of order are an *OrderError, and Lower is
	// not used.
	Scratch Scratch
}

// An Inspector sees what goes into a layer. An error from either method ends
// the work and is returned, wrapped.
type Inspector interface {
	// Entry gets the final header of the next entry. It must not change it.
	Entry(hdr *tar.Header) error
	// Write gets the content of the entry in pieces.
	io.Writer
}

// Scratch is room for contents: what is written first must be readable at
// offset 0. A new *os.File does that.
type Scratch interface {
	io.Writer
	io.ReaderAt
}

// Stats tell what has been written.
type Stats struct {
	// Entries counts headers, Bytes the contents of regular files.
	Entries int
	Bytes   int64
}

// Empty reports whether there was nothing to write. The stream is a valid
// archive nevertheless.
func (s Stats) Empty() bool { return s.Entries == 0 }

// An OrderError says that entries did not come in canonical order. The same
// stream can be normalized with Options.Scratch.
type OrderError struct {
	// Name came after After, but belongs before it (or is the same).
	Name, After string
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("layer entry %q comes after %q: not in canonical order", e.Name, e.After)
}
