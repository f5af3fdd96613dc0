// Package atomicfile writes files of which every reader finds the old content
// or the new one, never a part, whenever the writer is killed.
//
// Create begins a file, Commit gives it its name, Write does both. Until then a
// file has no name at all where the file system can do that (O_TMPFILE), so
// that nothing of it stays when its process ends. Elsewhere, and for the moment
// in which an existing file is replaced, it has a name that begins with Prefix,
// and its process holds it locked; Clear removes those of killed processes.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

// Prefix begins the name of every file that is not complete.
const Prefix = ".pdibuild-"

// A File becomes the content of a path with Commit.
type File struct {
	*os.File
	dir, path string
	// name is what the file is called until then; empty while it has no name.
	name string
	done bool
}

// Create begins the file that is to be at path. Until then it is in dir, which
// has to be on the same file system. The umask limits perm.
func Create(dir, path string, perm os.FileMode) (*File, error) {
	f, err := unnamed(dir, path, perm)
	switch {
	case unsupported(err):
		return CreateNamed(dir, path, perm)
	case err != nil:
		return nil, err
	}
	return &File{File: f, dir: dir, path: path}, nil
}

// unnamed makes a file without a name; path is for messages.
func unnamed(dir, path string, perm os.FileMode) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, &os.PathError{Op: "make a file in", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// unsupported reports whether the file system, or an old kernel, has no files
// without a name.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// CreateNamed is Create for a directory that others may remove while it is empty:
// the file has a name in it from the start.
func CreateNamed(dir, path string, perm os.FileMode) (*File, error) {
	name := filepath.Join(dir, Prefix+rand.Text())
	f, err := lockfile.NewMode(name, perm)
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: dir, path: path, name: name}, nil
}

// Commit gives the file its name, in the place of a file that has it, and
// closes it. Call Sync first if it has to survive a loss of power.
func (f *File) Commit() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.name == "" {
		err := f.link(f.path)
		if err == nil {
			f.done = true
			return f.File.Close()
		}
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		if err := lockfile.Hold(f.File); err != nil {
			return err
		}
		name := filepath.Join(f.dir, Prefix+rand.Text())
		if err := f.link(name); err != nil {
			return err
		}
		f.name = name
	}
	if err := os.Rename(f.name, f.path); err != nil {
		return err
	}
	f.done = true
	return f.File.Close()
}

// link gives the file, which has no name, one that nothing else has.
func (f *File) link(name string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}

// Close drops the file unless it was committed; it may be called again.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	var err error
	if f.name != "" {
		err = os.Remove(f.name)
	}
	return errors.Join(err, f.File.Close())
}

// Temporary makes a file in dir that never gets a name, or loses it at once: it is
// gone when it is closed or its process ends.
func Temporary(dir string) (*os.File, error) {
	f, err := unnamed(dir, filepath.Join(dir, "temporary file"), 0o600)
	if !unsupported(err) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, Prefix); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Write writes a whole file, to the disk.
func Write(path string, data []byte, perm os.FileMode) error {
	return WriteIn(filepath.Dir(path), path, data, perm)
}

// WriteIn is Write with the directory in which the file is until it is complete.
func WriteIn(dir, path string, data []byte, perm os.FileMode) error {
	f, err := Create(dir, path, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Commit()
}

// Clear removes what processes that were killed have left in these directories.
func Clear(dirs ...string) {
	for _, dir := range dirs {
		lockfile.Abandoned(dir, isUnfinished, func(name string) { _ = os.Remove(filepath.Join(dir, name)) })
	}
}

func isUnfinished(name string) bool { return strings.HasPrefix(name, Prefix) }
