package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// An Origin is a file on disk with the content of an Entry. Tree.Stage makes
// it a file of the layer by a hard link, where that is right, and no byte is
// copied.
type Origin struct {
	// Name is the path in Root, without links, of a regular file that nobody
	// will ever write to again. No Root means that there is none; it stays open
	// until the layer is written.
	Root *rootfs.Root
	Name string
	// Owned says that the file's attributes may be changed: it belongs to
	// a working layer that is thrown away afterwards.
	Owned bool
}

func (o Origin) open() (io.ReadCloser, error) { return o.Root.OpenExact(o.Name) }

// StageOptions say where and how a tree is staged.
type StageOptions struct {
	Options
	// Dir is the empty directory that becomes the files of the layer, in the
	// form that overlay mounts: a whiteout is a character device 0:0.
	Dir string
	// Split gets the layer's description in the tar-split format of
	// containers/storage, not compressed.
	Split io.Writer
	// SingleID leaves the owners of files as they are, because this host has
	// only one.
	SingleID bool
	// NoDevices leaves device nodes out of Dir, not out of the stream: a
	// user namespace cannot make them.
	NoDevices bool
}

// Staged is what Tree.Stage has made.
type Staged struct {
	Stats
	// DiffID is the digest of the stream, and Size its length in bytes.
	DiffID digest.Digest
	Size   int64
	// UIDs and GIDs own files of the layer.
	UIDs, GIDs []uint32
	// RootMode is the mode of the root directory, if the layer has an entry
	// for it; else Dir has the attributes that it was made with.
	RootMode *fs.FileMode
	// Linked counts the bytes of files that were not copied.
	Linked int64
}

// Stage puts the files of the tree into a directory and computes what the
// stream that Encode would write hashes to, in one pass. Contents come from
// Origin by hard link where file system, owner, mode, time and uniqueness
// allow it, else they are copied, with holes where they are zero. After an
// error the directory is worthless.
func (t *Tree) Stage(opt StageOptions) (_ *Staged, err error) {
	if t, err = t.withoutOpaque(opt.Lower); err != nil {
		return nil, err
	}
	s := &stager{opt: opt, linked: map[[2]uint64]bool{}, uids: map[int]bool{}, gids: map[int]bool{}}
	rec := newRecorder(opt.Split)
	stats, encodeErr := t.encode(newStagingEncoder(rec, s))
	_ = s.origins.Close() // they were only looked at
	diffID, size, err := rec.close()
	if encodeErr != nil {
		return nil, encodeErr
	}
	if err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	return &Staged{
		Stats: stats, DiffID: diffID, Size: size, Linked: s.bytes, RootMode: t.rootMode(),
		UIDs: sortedIDs(s.uids), GIDs: sortedIDs(s.gids),
	}, nil
}

// SetRoot gives the directory that is the root of an unpacked layer the
// attributes of the layer's entry for it; with a single id not its owner.
func SetRoot(dir string, hdr *tar.Header, singleID bool) error {
	root, err := canonical(hdr, place{name: "."}, hdr.ModTime)
	if err != nil {
		return err
	}
	var now unix.Stat_t
	if err := unix.Lstat(dir, &now); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	owned := singleID || int(now.Uid) == root.Uid && int(now.Gid) == root.Gid
	if owned && int64(now.Mode&0o7777) == root.Mode && len(root.PAXRecords) == 0 {
		return nil // perhaps in a store that cannot be written to
	}
	s := stager{opt: StageOptions{Dir: dir, SingleID: singleID}}
	return s.setAttributes(stagedFile{hdr: root})
}

func (t *Tree) rootMode() *fs.FileMode {
	if t.root == nil {
		return nil
	}
	mode := t.root.header().FileInfo().Mode()
	return &mode
}

func sortedIDs(set map[int]bool) []uint32 {
	ids := make([]uint32, 0, len(set))
	for id := range set {
		ids = append(ids, uint32(id))
	}
	slices.Sort(ids)
	return ids
}

// A stager makes the files of a layer.
type stager struct {
	opt     StageOptions
	origins rootfs.Cursor
	// linked are the inodes in this layer: two files of the stream must not
	// become one on disk.
	linked     map[[2]uint64]bool
	uids, gids map[int]bool
	bytes      int64
	// unfinished get their attributes at the end: the time of a directory would
	// not outlast what is made in it, and commands' files are compared with
	// those below while the stream is written. A file that is written has its
	// own as soon as it is closed, so that a large tree is not remembered here.
	unfinished []stagedFile
}

type stagedFile struct {
	hdr *tar.Header
	// kept says that the file was linked, and has attributes already.
	kept bool
}

func (s *stager) path(name string) string { return filepath.Join(s.opt.Dir, name) }

// place makes the file of an entry. Its content, if it is not linked, has to
// be written to the returned writer, which is nil otherwise.
func (s *stager) place(hdr *tar.Header, origin Origin) (io.WriteCloser, error) {
	s.uids[hdr.Uid], s.gids[hdr.Gid] = true, true
	dir, base := path.Split(hdr.Name)
	if base == opaqueName {
		return nil, errors.New("an opaque directory cannot be staged; give Options.Lower")
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return nil, s.make(dir+hidden, func(p string) error { return unix.Mknod(p, unix.S_IFCHR, 0) })
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		return s.placeFile(hdr, origin)
	case tar.TypeLink:
		return nil, s.make(hdr.Name, func(p string) error { return os.Link(s.path(hdr.Linkname), p) })
	}
	if s.opt.NoDevices && (hdr.Typeflag == tar.TypeChar || hdr.Typeflag == tar.TypeBlock) {
		return nil, nil
	}
	s.unfinished = append(s.unfinished, stagedFile{hdr: hdr})
	if hdr.Name == rootName {
		return nil, nil // Dir is there
	}
	return nil, s.make(hdr.Name, func(p string) error { return makeSpecial(p, hdr) })
}

func makeSpecial(p string, hdr *tar.Header) error {
	device := int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
	switch hdr.Typeflag {
	case tar.TypeDir:
		return os.Mkdir(p, 0o700)
	case tar.TypeSymlink:
		return os.Symlink(hdr.Linkname, p)
	case tar.TypeFifo:
		return unix.Mkfifo(p, 0o600)
	case tar.TypeChar:
		return unix.Mknod(p, unix.S_IFCHR|0o600, device)
	case tar.TypeBlock:
		return unix.Mknod(p, unix.S_IFBLK|0o600, device)
	}
	return fmt.Errorf("type %q", hdr.Typeflag)
}

// make calls do, if need be after making the directories above.
func (s *stager) make(name string, do func(string) error) error {
	p := s.path(name)
	err := do(p)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		return do(p)
	}
	return err
}

func (s *stager) placeFile(hdr *tar.Header, origin Origin) (io.WriteCloser, error) {
	if origin.Root != nil && s.link(hdr, origin) {
		s.bytes += hdr.Size
		if origin.Owned {
			s.unfinished = append(s.unfinished, stagedFile{hdr: hdr, kept: true})
		}
		return nil, nil
	}
	var f *os.File
	err := s.make(hdr.Name, func(p string) (err error) {
		f, err = os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &stagedWriter{sparseWriter{file: f}, s, hdr}, nil
}

// A stagedWriter writes a file of the layer.
type stagedWriter struct {
	sparseWriter
	stage *stager
	hdr   *tar.Header
}

// Close ends the file and gives it its attributes.
func (w *stagedWriter) Close() error {
	if err := w.sparseWriter.Close(); err != nil {
		return err
	}
	return w.stage.setAttributes(stagedFile{hdr: w.hdr})
}

// link makes the file a further name of its origin, and reports whether it
// could.
func (s *stager) link(hdr *tar.Header, origin Origin) bool {
	f, err := s.origins.FileExact(origin.Root, origin.Name)
	if err != nil || !f.Info.Mode().IsRegular() || f.Info.Size() != hdr.Size {
		return false
	}
	st, ok := f.Info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	id := [2]uint64{uint64(st.Dev), st.Ino} //nolint:unconvert // not a uint64 on every architecture
	if s.linked[id] || !origin.Owned && !s.same(hdr, st, f.HostPath()) {
		return false
	}
	// Another file system, too many links: then it is copied.
	if s.make(hdr.Name, func(p string) error { return os.Link(f.HostPath(), p) }) != nil {
		return false
	}
	s.linked[id] = true
	return true
}

// same reports whether a file that must not change has the attributes already.
func (s *stager) same(hdr *tar.Header, st *syscall.Stat_t, file string) bool {
	if st.Mode&0o7777 != uint32(hdr.Mode) || st.Mtim.Sec != hdr.ModTime.Unix() || st.Mtim.Nsec != 0 {
		return false
	}
	if !s.opt.SingleID {
		return int(st.Uid) == hdr.Uid && int(st.Gid) == hdr.Gid
	}
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(file, OwnerXattr, buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return hdr.Uid == 0 && hdr.Gid == 0
	}
	if err != nil {
		return false
	}
	return string(buf[:n]) == fmt.Sprintf("%d:%d", hdr.Uid, hdr.Gid)
}

// finish gives the files their attributes, the last ones first, so that a
// directory comes after what is in it.
func (s *stager) finish() error {
	for _, f := range slices.Backward(s.unfinished) {
		if err := s.setAttributes(f); err != nil {
			return fmt.Errorf("layer entry %q: %w", f.hdr.Name, err)
		}
	}
	return nil
}

func (s *stager) setAttributes(f stagedFile) error {
	p, symlink := s.path(f.hdr.Name), f.hdr.Typeflag == tar.TypeSymlink
	if !s.opt.SingleID {
		if err := os.Lchown(p, f.hdr.Uid, f.hdr.Gid); err != nil {
			return err
		}
	}
	if !symlink {
		if err := unix.Chmod(p, uint32(f.hdr.Mode)); err != nil {
			return &fs.PathError{Op: "chmod", Path: p, Err: err}
		}
	}
	if f.kept {
		if err := stripXattrs(p, f.hdr); err != nil {
			return err
		}
	}
	for key, value := range f.hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok {
			continue
		}
		if err := unix.Lsetxattr(p, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "setxattr " + name, Path: p, Err: err}
		}
	}
	t := unix.NsecToTimespec(f.hdr.ModTime.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: p, Err: err}
	}
	return nil
}

// stripXattrs removes what the layer does not have: the overlay's marks, ACLs.
func stripXattrs(p string, hdr *tar.Header) error {
	buf := make([]byte, 64<<10) // the kernel's limit, xattr(7)
	n, err := unix.Llistxattr(p, buf)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil // a file system without attributes has none to remove
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: p, Err: err}
	}
	if n == 0 {
		return nil
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if _, ok := hdr.PAXRecords[xattrRecord+name]; ok || name == "security.selinux" {
			continue
		}
		if err := unix.Lremovexattr(p, name); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENODATA) {
			return &fs.PathError{Op: "removexattr " + name, Path: p, Err: err}
		}
	}
	return nil
}

// A sparseWriter leaves out blocks of zeros.
type sparseWriter struct {
	file *os.File
	size int64
	// end is where the last write ended: zeros follow up to size.
	end int64
}

var zeros [4096]byte

// Write writes the next bytes of the file.
func (w *sparseWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), len(zeros)-int(w.size%int64(len(zeros))))
		if n == len(zeros) && bytes.Equal(rest[:n], zeros[:]) {
			w.size, rest = w.size+int64(n), rest[n:]
			continue
		}
		// As much as can be written at once: up to the next block of zeros.
		for len(rest)-n >= len(zeros) && !bytes.Equal(rest[n:n+len(zeros)], zeros[:]) {
			n += len(zeros)
		}
		if len(rest)-n < len(zeros) {
			n = len(rest)
		}
		if _, err := w.file.WriteAt(rest[:n], w.size); err != nil {
			return 0, err
		}
		w.size, rest = w.size+int64(n), rest[n:]
		w.end = w.size
	}
	return len(p), nil
}

// Close ends the file.
func (w *sparseWriter) Close() error {
	var err error
	if w.end < w.size {
		err = w.file.Truncate(w.size)
	}
	return errors.Join(err, w.file.Close())
}
