package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/layer"
)

// An inode identifies a file as long as it is there.
type inode struct {
	dev, ino uint64
	// layer tells files of the store apart that became one by hard links
	// between layers: in an image they are several.
	layer int
}

// hardLinks remembers the names of files that have several.
type hardLinks struct {
	first map[inode]string
}

// known returns the first name of the file; if there was none, name is.
func (h *hardLinks) known(id inode, name string) (string, bool) {
	first, ok := h.first[id]
	if ok {
		return first, true
	}
	if h.first == nil {
		h.first = map[inode]string{}
	}
	h.first[id] = name
	return "", false
}

func inodeOf(info fs.FileInfo) inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{dev: uint64(st.Dev), ino: st.Ino} //nolint:unconvert // not a uint64 on every architecture
}

// A hostFile is the path of a file below a directory, in two parts because all
// files of a tree share the first; see layer.Origin.
type hostFile struct{ dir, name string }

func (f hostFile) path() string { return filepath.Join(f.dir, f.name) }

func (f hostFile) open() (io.ReadCloser, error) { return os.Open(f.path()) }

// fileEntry describes a file of the host as a layer entry: with its owner, its
// extended attributes and, for the further names of a hard-linked file, the
// first one.
func fileEntry(at hostFile, name string, info fs.FileInfo, links *hardLinks) (layer.Entry, error) {
	return layeredEntry(at, name, info, 0, links)
}

// layeredEntry describes a file that the n-th layer of an image has.
func layeredEntry(at hostFile, name string, info fs.FileInfo, n int, links *hardLinks) (layer.Entry, error) {
	full, link := at.path(), ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(full); err != nil {
			return layer.Entry{}, err
		}
	}
	hdr, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return layer.Entry{}, err
	}
	hdr.Name = strings.TrimPrefix(name, "/")
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
		id := inodeOf(info)
		id.layer = n
		if first, ok := links.known(id, hdr.Name); ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			return layer.Entry{Header: *hdr}, nil
		}
	}
	if err := readAttributes(full, hdr); err != nil {
		return layer.Entry{}, err
	}
	return layer.Entry{Header: *hdr, Open: at.open}, nil
}

// readAttributes adds extended attributes to hdr; which of them stay is
// pkg/layer's business.
func readAttributes(full string, hdr *tar.Header) error {
	names, err := attributeNames(full)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value, err := attribute(full, name)
		if err != nil {
			return fmt.Errorf("read attribute %s of %s: %w", name, full, err)
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords["SCHILY.xattr."+name] = value
	}
	return nil
}

func attributeNames(full string) ([]string, error) {
	var buf []byte
	size, err := unix.Llistxattr(full, nil)
	if err == nil && size > 0 {
		buf = make([]byte, size)
		size, err = unix.Llistxattr(full, buf)
	}
	if ignoreUnsupported(err) != nil {
		return nil, fmt.Errorf("list the attributes of %s: %w", full, err)
	}
	if err != nil || size == 0 {
		return nil, nil //nolint:nilerr // a file system without attributes, or a file without
	}
	return strings.Split(strings.TrimRight(string(buf[:size]), "\x00"), "\x00"), nil
}

// attribute returns one extended attribute; one that is not there is empty.
func attribute(full, name string) (string, error) {
	value := make([]byte, 64<<10) // the kernel's limit, xattr(7)
	n, err := unix.Lgetxattr(full, name, value)
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
