package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A layerRoot reads the files of a layer's directory as a process would whose
// root that is. The names come from whoever made the image: the storage
// library's own reader joins them with the directory and follows whatever is
// there, so that "../../etc/shadow" and a link to /etc are files of the host.
type layerRoot struct {
	*rootfs.Root
	last rootfs.Cursor
	// lower are the directories of the layers below: one that was made from
	// another layer, as podman does for users with ids of their own, has its
	// files there.
	lower []string
}

// openLayerRoot opens the directory that has a layer's files; errNoSplit says
// that this driver keeps them in another way.
func openLayerRoot(store *imagestore.Store, id string) (*layerRoot, error) {
	var dir string
	var lower []string
	switch driver := store.GraphDriverName(); {
	case driver == "vfs":
		dir = filepath.Join(store.GraphRoot(), "vfs", "dir", id)
	case driver == "overlay" && !store.UsesComposefs():
		graph, err := store.GraphDriver()
		if err != nil {
			return nil, err
		}
		meta, err := graph.Metadata(id)
		if err != nil {
			return nil, err
		}
		dir, lower = meta["UpperDir"], filepath.SplitList(meta["LowerDir"])
	}
	if dir == "" {
		return nil, errNoSplit
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, err
	}
	return &layerRoot{Root: root, lower: lower}, nil
}

// Get opens a regular file.
func (r *layerRoot) Get(name string) (io.ReadCloser, error) {
	f, err := r.open(r.Root, name)
	for i := 0; errors.Is(err, fs.ErrNotExist) && i < len(r.lower); i++ {
		below, openErr := rootfs.Open(r.lower[i])
		if openErr != nil {
			break
		}
		f, err = r.open(below, name)
		_ = below.Close() // it was only read
	}
	if err != nil {
		return nil, fmt.Errorf("open in the layer: %w", err)
	}
	return f, nil
}

// open opens a regular file by its path, which may lead through links of the
// same layer but is none itself.
func (r *layerRoot) open(root *rootfs.Root, name string) (*os.File, error) {
	f, err := r.last.FileExact(root, name)
	if errors.Is(err, unix.ENOTDIR) {
		if f, err = root.File(name); err == nil {
			defer f.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	if !f.Info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file any more")}
	}
	return root.OpenExact(f.Name)
}

// Close closes the directory.
func (r *layerRoot) Close() error { return errors.Join(r.last.Close(), r.Root.Close()) }
