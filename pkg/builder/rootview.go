package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A rootView knows the files and the accounts of a root file system.
type rootView struct {
	// Root is nil where only the recipe's accounts are known.
	*rootfs.Root
	// users are those that the recipe creates, also later in the stage.
	users []recipe.UserSpec
}

// isDir reports whether name is a directory or a link to one.
func (v *rootView) isDir(name string) bool {
	info, err := v.Stat(name)
	return err == nil && info.IsDir()
}

// header describes a file that is there as a tar entry. It follows no link:
// below one there is nothing.
func (v *rootView) header(name string) (*tar.Header, error) {
	f, err := v.FileExact(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hdr, err := fileHeader(f)
	if err != nil {
		return nil, err
	}
	return hdr, fileentry.ReadAttributes(f, hdr)
}

// fileHeader describes a file as a tar entry, with its noted owner.
func fileHeader(f *rootfs.File) (*tar.Header, error) {
	hdr, err := tar.FileInfoHeader(f.Info, "")
	if err != nil {
		return nil, err
	}
	hdr.Name = strings.TrimPrefix(f.Name, "/")
	if st, ok := f.Info.Sys().(*syscall.Stat_t); ok {
		hdr.Uid, hdr.Gid = int(st.Uid), int(st.Gid)
	}
	switch uid, gid, ok, err := ownership.Owner(f.HostPath()); {
	case imagestore.IsDiskError(err):
		return nil, err
	case err == nil && ok:
		hdr.Uid, hdr.Gid = uid, gid
	}
	return hdr, nil
}

// read returns the content of a small file; a missing one is empty.
func (v *rootView) read(name string) ([]byte, error) {
	if v.Root == nil {
		return nil, nil
	}
	return v.ReadIfExists(name)
}

// addParents adds the directories above the entries: as they are where they
// are there, else owned by root and open to all.
func (v *rootView) addParents(t *layer.Tree) error {
	for _, dir := range t.MissingParents() {
		hdr, err := v.header("/" + dir)
		if errors.Is(err, fs.ErrNotExist) {
			hdr, err = &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil
		}
		if err != nil {
			return err
		}
		if hdr.Typeflag != tar.TypeDir {
			return fmt.Errorf("/%s is not a directory in the image", dir)
		}
		if err := t.Add(layer.Entry{Header: *hdr}); err != nil {
			return err
		}
	}
	return nil
}
