package builder

import (
	"archive/tar"
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// On a host with a single id every file in the store belongs to its user. The
// tar headers that the store keeps beside a layer say whose the file really
// is, but a command in a working layer sees the files. So the owner is noted
// at the file, too, where internal/ownership finds it, and beside the layer
// for drivers that copy files without their attributes (vfs). What cannot have
// attributes, such as a symbolic link, has its owner beside the layer alone:
// internal/ownership is told of it before a command runs; see link_owners.go.

// ownersKey is under which a layer's owners are kept in the store, as a gob:
// names need not be UTF-8. ("pdibuild-owners" had none of links.)
const ownersKey = "pdibuild-file-owners"

// A fileOwner is a file that does not belong to root, or no longer does.
type fileOwner struct {
	Name string
	UID  int
	GID  int
	// Bare is set for a file that cannot have attributes.
	Bare bool
}

// appendOwner notes the owner of an entry. Below are the files that others
// own in the layers below.
func appendOwner(owners []fileOwner, hdr *tar.Header, below map[string]bool) []fileOwner {
	root := hdr.Uid == 0 && hdr.Gid == 0
	if root && !below[hdr.Name] || hdr.Typeflag == tar.TypeLink { // the first name will do
		return owners
	}
	bare := hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeDir
	return append(owners, fileOwner{hdr.Name, hdr.Uid, hdr.Gid, bare})
}

// noteOwners notes the owners in a layer that has just been kept. It passes
// err on.
func (r *run) noteOwners(rec cache.Record, in *inspector, err error) (cache.Record, error) {
	if err != nil || !rec.Added || !r.b.ids.single {
		return rec, err
	}
	return rec, noteOwners(r.b.store, rec.Layer, in.owners)
}

// noteOwners leaves a layer alone that has a note.
func noteOwners(store storage.Store, id string, owners []fileOwner) error {
	if l, err := store.Layer(id); err == nil && slices.Contains(l.BigDataNames, ownersKey) {
		return nil // it is shared with another step
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(owners); err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	if err := store.SetLayerBigData(id, ownersKey, &data); err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	dir, err := layerDir(store, id)
	if err != nil {
		return err
	}
	if dir == "" {
		return noteCopiedOwners(store, id)
	}
	return setOwnersIn(dir, owners)
}

// noteCopiedOwners notes all owners of a chain in its top layer, which a
// driver such as vfs keeps as a full copy of the layers below. It would find
// the attributes of a working layer to be changes if they were not there.
func noteCopiedOwners(store storage.Store, id string) (err error) {
	owners, err := ownersOf(store, id)
	if err != nil {
		return err
	}
	driver, err := store.GraphDriver()
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	dir, err := driver.Get(id, graphdriver.MountOpts{})
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	defer func() { err = errors.Join(err, driver.Put(id)) }()
	return setOwnersIn(dir, owners)
}

// layerDir is where the driver keeps the files of one layer alone; "" where
// it has no such place.
func layerDir(store storage.Store, id string) (string, error) {
	driver, err := store.GraphDriver()
	if err != nil {
		return "", fmt.Errorf("note owners: %w", err)
	}
	meta, err := driver.Metadata(id)
	if err != nil {
		return "", fmt.Errorf("note owners: %w", err)
	}
	return meta["UpperDir"], nil
}

// chainDirs is layerDir for a chain of layers, the lowest first. Asked for one
// layer, the driver lists all that are below it.
func chainDirs(store storage.Store, layers []*storage.Layer) ([]string, error) {
	if len(layers) == 0 {
		return nil, nil
	}
	driver, err := store.GraphDriver()
	if err != nil {
		return nil, fmt.Errorf("find the layers' files: %w", err)
	}
	meta, err := driver.Metadata(layers[len(layers)-1].ID)
	if err != nil {
		return nil, fmt.Errorf("find the layers' files: %w", err)
	}
	dirs := []string{meta["UpperDir"]}
	if meta["LowerDir"] != "" {
		dirs = append(dirs, strings.Split(meta["LowerDir"], ":")...)
	}
	if len(dirs) == len(layers) {
		slices.Reverse(dirs)
		return dirs, nil
	}
	dirs = dirs[:0]
	for _, l := range layers {
		dir, err := layerDir(store, l.ID)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func setOwnersIn(dir string, owners []fileOwner) error {
	root, err := rootfs.Open(dir)
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	defer root.Close()
	return setOwners(root, owners)
}

// setOwners notes owners at the files. What is not there, or not any more, is
// left out; the names come from images.
func setOwners(root *rootfs.Root, owners []fileOwner) error {
	var c rootfs.Cursor
	defer func() { _ = c.Close() }() // it was only looked at
	for _, o := range owners {
		if o.Bare {
			continue
		}
		f, err := c.FileExact(root, o.Name)
		if err == nil {
			err = ownership.Set(f.HostPath(), o.UID, o.GID)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("note owners: %w", err)
		}
	}
	return nil
}

// ownersOf returns the noted owners in the chain that ends in top, the lowest
// layer first.
func ownersOf(store storage.Store, top string) ([]fileOwner, error) {
	var all []fileOwner
	for id := top; id != ""; {
		l, err := store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("read owners: %w", err)
		}
		owners, err := layerOwners(store, l)
		if err != nil {
			return nil, err
		}
		all = append(owners, all...)
		id = l.Parent
	}
	return all, nil
}

// layerOwners returns the noted owners of one layer; none were noted where
// there is no note.
func layerOwners(store storage.Store, l *storage.Layer) (owners []fileOwner, err error) {
	if !slices.Contains(l.BigDataNames, ownersKey) {
		return nil, nil
	}
	data, err := store.LayerBigData(l.ID, ownersKey)
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if err := gob.NewDecoder(data).Decode(&owners); err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	return owners, nil
}

// showOwners makes the owners visible in a working layer of a driver that
// copies files without their attributes.
func (wk *work) showOwners() error {
	if dir, err := layerDir(wk.owner.store, wk.id); err != nil || dir != "" {
		return err
	}
	owners, err := ownersOf(wk.owner.store, wk.parent)
	if err != nil {
		return err
	}
	return setOwners(wk.root, owners)
}

// ownersBelowKey marks a layer at which, and below which, all owners are noted: a
// layer without any then needs no note of its own, of which each makes the library
// write its list of all layers.
const ownersBelowKey = "pdibuild-file-owners-below"

// noteImageOwners notes the owners in all layers of a chain that came from
// elsewhere, or that an earlier version has made, each once.
func (b *Builder) noteImageOwners(top string) error {
	layers, err := b.layers(top)
	if err != nil || len(layers) == 0 {
		return err
	}
	dir, err := layerDir(b.store, top)
	if err != nil {
		return err
	}
	unmarked := false
	for i := markedLayers(layers, ownersBelowKey); i < len(layers); i++ {
		if slices.Contains(layers[i].BigDataNames, ownersKey) {
			continue
		}
		// The layer is read to its end before anything is noted: the store is
		// locked for as long as a diff is open.
		owners, err := b.diffOwners(layers[i].ID)
		if err != nil {
			return err
		}
		if len(owners) == 0 && dir != "" { // a full copy has the owners of the layers below
			unmarked = true
			continue
		}
		if err := noteOwners(b.store, layers[i].ID, owners); err != nil {
			return err
		}
	}
	if !unmarked {
		return nil
	}
	if err := b.store.SetLayerBigData(top, ownersBelowKey, strings.NewReader("1")); err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	return nil
}

func (b *Builder) diffOwners(id string) (owners []fileOwner, err error) {
	err = b.eachHeader(id, func(hdr *tar.Header) error {
		if path.Clean("/"+hdr.Name) != "/" { // see examineLayer
			owners = appendOwner(owners, hdr, nil)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("note owners: %w", err)
	}
	return owners, nil
}
