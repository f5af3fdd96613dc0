package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// On a host with a single id every file in the store belongs to its user. The
// tar headers that the store keeps beside a layer say whose the file really
// is, but a command in a working layer sees the files. So the owner is noted
// at the file, too, where internal/ownership finds it.

// A fileOwner is a file that does not belong to root.
type fileOwner struct {
	name     string
	uid, gid int
}

func appendOwner(owners []fileOwner, hdr *tar.Header) []fileOwner {
	if hdr.Uid == 0 && hdr.Gid == 0 || (hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeDir) {
		return owners
	}
	return append(owners, fileOwner{hdr.Name, hdr.Uid, hdr.Gid})
}

// noteOwners notes the owners in a layer that has just been kept. It passes
// err on.
func (r *run) noteOwners(rec cache.Record, in *inspector, err error) (cache.Record, error) {
	if err != nil || !rec.Added || !r.b.ids.single {
		return rec, err
	}
	return rec, r.b.noteOwners(rec.Layer, in.owners)
}

func (b *Builder) noteOwners(id string, owners []fileOwner) error {
	driver, err := b.store.GraphDriver()
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	meta, err := driver.Metadata(id)
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	dir := meta["UpperDir"]
	if dir == "" {
		return nil // vfs copies files without attributes; see docs/rootless.md
	}
	for _, o := range owners {
		err := ownership.Set(filepath.Join(dir, o.name), o.uid, o.gid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("note owners: %w", err)
		}
	}
	return nil
}

// noteImageOwners notes the owners in all layers of an image that came from
// elsewhere, once.
func (b *Builder) noteImageOwners(top string) error {
	const done = "pdibuild-owners"
	for id := top; id != ""; {
		l, err := b.store.Layer(id)
		if err != nil {
			return fmt.Errorf("note owners: %w", err)
		}
		if data, err := b.store.LayerBigData(id, done); err == nil {
			_ = data.Close()
			return nil
		}
		if err := b.noteLayerOwners(id); err != nil {
			return err
		}
		if err := b.store.SetLayerBigData(id, done, emptyReader{}); err != nil {
			return fmt.Errorf("note owners: %w", err)
		}
		id = l.Parent
	}
	return nil
}

func (b *Builder) noteLayerOwners(id string) (err error) {
	uncompressed := archive.Uncompressed
	diff, err := b.store.Diff("", id, &storage.DiffOptions{Compression: &uncompressed})
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	var owners []fileOwner
	for tr := tar.NewReader(diff); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return b.noteOwners(id, owners)
		}
		if err != nil {
			return fmt.Errorf("note owners: %w", err)
		}
		owners = appendOwner(owners, hdr)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }
