// Package fileentry describes files of a root as entries of a layer: owner,
// extended attributes and hard links included.
package fileentry

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// An Inode identifies a file as long as it exists.
type Inode struct {
	Dev, Ino uint64
	// Layer tells files of the store apart that became one by hard links
	// between layers: in an image they are several.
	Layer int
}

// Links remembers the names of files that have several.
type Links struct {
	first map[Inode]string
}

// known returns the first name of the file; if there was none, name is.
func (h *Links) known(id Inode, name string) (string, bool) {
	first, ok := h.first[id]
	if ok {
		return first, true
	}
	if h.first == nil {
		h.first = map[Inode]string{}
	}
	h.first[id] = name
	return "", false
}

// InodeOf returns what identifies the file.
func InodeOf(info fs.FileInfo) Inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Inode{}
	}
	return Inode{Dev: uint64(st.Dev), Ino: st.Ino} //nolint:unconvert // not a uint64 on every architecture
}

// New describes a file as a layer entry with that name: with its owner,
// its extended attributes and, for the further names of a hard-linked file, the
// first one. The file's root stays open until the layer is written.
func New(f *rootfs.File, name string, links *Links) (layer.Entry, error) {
	e, err := Unlinked(f, name)
	if err != nil || !HasLinks(f.Info) {
		return e, err
	}
	if first, ok := links.known(InodeOf(f.Info), e.Header.Name); ok {
		e.Header.Typeflag, e.Header.Linkname, e.Header.Size = tar.TypeLink, first, 0
		return layer.Entry{Header: e.Header}, nil
	}
	return e, nil
}

// HasLinks reports whether a file has further names.
func HasLinks(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().IsRegular() && st.Nlink > 1
}

// Unlinked describes a file without regard to its other names.
func Unlinked(f *rootfs.File, name string) (layer.Entry, error) {
	link := ""
	if f.Info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = f.Readlink(); err != nil {
			return layer.Entry{}, err
		}
	}
	hdr, err := tar.FileInfoHeader(f.Info, link)
	if err != nil {
		return layer.Entry{}, err
	}
	hdr.Name = strings.TrimPrefix(name, "/")
	if err := ReadAttributes(f, hdr); err != nil {
		return layer.Entry{}, err
	}
	return layer.Entry{Header: *hdr, Open: f.Opener()}, nil
}

// ReadAttributes adds extended attributes to hdr. Package layer decides which of
// them become part of a layer.
func ReadAttributes(f *rootfs.File, hdr *tar.Header) error {
	names, err := AttributeNames(f)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value, err := Attribute(f, name)
		if err != nil {
			return fmt.Errorf("read attribute %s of %s: %w", name, f.Name, err)
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords["SCHILY.xattr."+name] = value
	}
	return nil
}

// AttributeNames lists the extended attributes of a file.
func AttributeNames(f *rootfs.File) ([]string, error) {
	full := f.HostPath()
	var buf []byte
	size, err := unix.Llistxattr(full, nil)
	if err == nil && size > 0 {
		buf = make([]byte, size)
		size, err = unix.Llistxattr(full, buf)
	}
	if ignoreUnsupported(err) != nil {
		return nil, fmt.Errorf("list the attributes of %s: %w", f.Name, err)
	}
	if err != nil || size == 0 {
		return nil, nil //nolint:nilerr // a file system without attributes, or a file without
	}
	return strings.Split(strings.TrimRight(string(buf[:size]), "\x00"), "\x00"), nil
}

// Attribute returns one extended attribute; one that is not there is empty.
func Attribute(f *rootfs.File, name string) (string, error) {
	value := make([]byte, 64<<10) // the kernel's limit, xattr(7)
	n, err := unix.Lgetxattr(f.HostPath(), name, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", ignoreUnsupported(err)
	}
	return string(value[:n]), nil
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}
