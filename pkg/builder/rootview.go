package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A rootView looks at a mounted root file system as a process in it would:
// symbolic links never lead out of it.
type rootView struct {
	root string
	// users are those that the recipe creates, also later in the stage.
	users []recipe.UserSpec
}

func (v *rootView) path(name string) (string, error) {
	return securejoin.SecureJoin(v.root, name)
}

// resolve follows the links in name and returns the real path in the image,
// absolute and clean.
func (v *rootView) resolve(name string) (string, error) {
	full, err := v.path(name)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(v.root, full)
	if err != nil {
		return "", err
	}
	return filepath.Join("/", rel), nil
}

// isDir reports whether name is a directory or a link to one.
func (v *rootView) isDir(name string) bool {
	full, err := v.path(name)
	if err != nil {
		return false
	}
	info, err := os.Stat(full)
	return err == nil && info.IsDir()
}

// header describes a file that is there as a tar entry.
func (v *rootView) header(name string) (*tar.Header, error) {
	full := filepath.Join(v.root, name)
	info, err := os.Lstat(full)
	if err != nil {
		return nil, err
	}
	hdr, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return nil, err
	}
	hdr.Name = strings.TrimPrefix(filepath.Clean(name), "/")
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		hdr.Uid, hdr.Gid = int(st.Uid), int(st.Gid)
	}
	switch uid, gid, ok, err := ownership.Owner(full); {
	case imagestore.IsDiskError(err):
		return nil, err
	case err == nil && ok:
		hdr.Uid, hdr.Gid = uid, gid
	}
	return hdr, nil
}

// read returns the content of a small file; a missing one is empty.
func (v *rootView) read(name string) ([]byte, error) {
	full, err := v.path(name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
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
