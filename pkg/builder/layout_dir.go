package builder

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/lockfile"
)

// A layoutWriter adds images to a directory in the OCI layout. The library
// writes to a directory of its own within that one, but for the blobs that are
// complete: Commit replaces the index, so that a reader finds the old one or the
// new one, and what a killed process leaves is removed by the next.
type layoutWriter struct {
	dir string
	// staged is where the library writes, blobs where complete blobs go.
	staged, blobs string
	hold          *os.File
}

// unfinishedLayout ends the name of a directory that the library writes to; the
// file that its process holds has the rest of the name.
const unfinishedLayout = ".d"

// layoutFiles are those that say what is in a layout.
func layoutFiles() []string { return []string{v1.ImageIndexFile, v1.ImageLayoutFile} }

// openLayout begins to write to the layout in dir, which the caller has locked.
func openLayout(dir string) (_ *layoutWriter, err error) {
	lockfile.Abandoned(dir, func(name string) bool { return strings.HasPrefix(name, atomicfile.Prefix) }, func(name string) {
		_ = os.RemoveAll(filepath.Join(dir, name+unfinishedLayout))
		_ = os.Remove(filepath.Join(dir, name))
	})
	w := &layoutWriter{dir: dir, blobs: filepath.Join(dir, v1.ImageBlobsDir)}
	name := filepath.Join(dir, atomicfile.Prefix+rand.Text())
	if w.hold, err = lockfile.New(name); err != nil {
		return nil, err
	}
	w.staged = name + unfinishedLayout
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// begin gives the library what is in the layout already.
func (w *layoutWriter) begin() error {
	if err := os.Mkdir(w.staged, 0o755); err != nil {
		return err
	}
	for _, name := range layoutFiles() {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(w.staged, name), data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commit shows what the library has written.
func (w *layoutWriter) commit() error {
	if err := os.MkdirAll(w.blobs, 0o755); err != nil {
		return err
	}
	for _, name := range layoutFiles() {
		data, err := os.ReadFile(filepath.Join(w.staged, name))
		if err == nil {
			err = atomicfile.Write(filepath.Join(w.dir, name), data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close removes what is not complete.
func (w *layoutWriter) Close() error {
	return errors.Join(os.RemoveAll(w.staged), os.Remove(w.hold.Name()), w.hold.Close())
}

// lockLayout keeps others from writing to the layout in dir, which it makes. It
// leaves no file in it: on a network file system it may not work across hosts.
func lockLayout(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := lockfile.Wait(ctx, f); err != nil && !errors.Is(err, unix.EBADF) { // NFS locks only what is open for writing
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
