package builder

import (
	"archive/tar"
	"errors"
	"fmt"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// The root directory of an image is made by the storage library: the drivers
// take mode and owner from the layer below, and no driver lists it as a change.
// What a command does to it is found here, and comes as an entry "./" into the
// layer, as the OCI specification has it.

// rootHeader describes the root directory as it is now.
func (wk *work) rootHeader() (*tar.Header, error) {
	f, err := wk.root.FileExact("/")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hdr, err := fileHeader(f)
	if err == nil {
		err = fileentry.ReadAttributes(f, hdr)
	}
	if err != nil {
		return nil, fmt.Errorf("look at the root directory: %w", err)
	}
	hdr.ModTime = farFuture // each driver makes it at another time
	return hdr, nil
}

// rootEntry is the root directory, if a command has changed it.
func (wk *work) rootEntry() (layer.Entry, bool, error) {
	hdr, err := wk.rootHeader()
	if err != nil || wk.firstRoot == nil {
		return layer.Entry{}, false, err
	}
	return layer.Entry{Header: *hdr}, !layer.SameAttributes(hdr, wk.firstRoot), nil
}

// beginRoot makes the root directory as it is in the layer below, and remembers
// how it was before a command ran.
func (wk *work) beginRoot() (err error) {
	if err := inheritRoot(wk.owner.store, wk.parent, wk.root.HostPath()); err != nil {
		return err
	}
	wk.firstRoot, err = wk.rootHeader()
	return err
}

// inheritRoot makes a directory that becomes a layer's root as the root of the
// layer below. A driver that copies the layer below does it itself.
func inheritRoot(store storage.Store, parent, to string) error {
	if parent == "" {
		return nil
	}
	from, err := layerDir(store, parent)
	if err == nil && from != "" {
		err = layer.InheritRoot(from, to)
	}
	if err != nil {
		return fmt.Errorf("make the root directory: %w", err)
	}
	return nil
}

// setRoot makes the root directory of a layer that the storage library has
// unpacked as hdr, the layer's entry for it, or without one as that of the layer
// below. Dir and below are where the driver keeps the two, as layerDir has it.
func (b *Builder) setRoot(l *storage.Layer, hdr *tar.Header, dir, below string) (err error) {
	driver, err := b.store.GraphDriver()
	if err != nil {
		return fmt.Errorf("make the root directory: %w", err)
	}
	dirs := map[string]string{l.ID: dir, l.Parent: below}
	for _, id := range []string{l.ID, l.Parent} {
		if id == "" {
			continue
		}
		if dirs[id] == "" {
			dirs[id], err = driver.Get(id, graphdriver.MountOpts{})
			defer func() { err = errors.Join(err, driver.Put(id)) }()
		}
		if err != nil {
			return fmt.Errorf("make the root directory: %w", err)
		}
	}
	switch {
	case hdr == nil && l.Parent != "":
		err = layer.InheritRoot(dirs[l.Parent], dirs[l.ID])
	case hdr == nil:
		err = layer.SetRoot(dirs[l.ID], &tar.Header{Typeflag: tar.TypeDir, Mode: defaultRootMode}, b.ids.single)
	default:
		err = layer.SetRoot(dirs[l.ID], hdr, b.ids.single)
		if err == nil && b.ids.single {
			err = ownership.Set(dirs[l.ID], hdr.Uid, hdr.Gid)
		}
	}
	if err != nil {
		return fmt.Errorf("make the root directory: %w", err)
	}
	return nil
}

// defaultRootMode is the mode with which the storage library makes roots.
const defaultRootMode = 0o555
