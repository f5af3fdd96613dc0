package rootfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// OpenAppend opens a regular file that exists for writing at its end, following
// all links.
func (r *Root) OpenAppend(name string) (*os.File, error) {
	f, err := r.handle("open", name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return reopenRegular(f, name, unix.O_WRONLY|unix.O_APPEND)
}

// MkdirAll makes a directory and those above it, following all links.
func (r *Root) MkdirAll(name string) error {
	f, err := r.makeAll(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return pathError("mkdir", name, err)
	}
	return nil
}

// Create makes a regular file with these permissions, less the umask, or
// empties one, following all links, and makes the directories above it.
func (r *Root) Create(name string, perm fs.FileMode) (*os.File, error) {
	real, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	dir, err := r.makeAll(path.Dir(real))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_WRONLY | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), path.Base(real), flags, uint32(perm.Perm()))
	if err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return nil, pathError("create", name, err)
	}
	at, err := r.handle("create", real, exact)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return reopenRegular(at, name, unix.O_WRONLY|unix.O_TRUNC)
}

// WriteFile writes a regular file as Create makes it, readable by all.
func (r *Root) WriteFile(name string, data []byte) error {
	f, err := r.Create(name, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Symlink makes a symbolic link in a directory, which it makes, too.
func (r *Root) Symlink(target, name string) error {
	name = path.Clean("/" + name)
	dir, err := r.makeAll(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(target, int(dir.Fd()), path.Base(name)); err != nil {
		return pathError("symlink", name, err)
	}
	return nil
}

// Remove removes a file, or a link itself, if there is one.
func (r *Root) Remove(name string) error {
	name = path.Clean("/" + name)
	dir, err := r.handle("remove", path.Dir(name), 0)
	if err == nil {
		defer dir.Close()
		err = unix.Unlinkat(int(dir.Fd()), path.Base(name), 0)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("remove", name, err)
	}
	return nil
}

// makeAll is Make for directories that stay.
func (r *Root) makeAll(name string) (*os.File, error) {
	f, made, err := r.Make(name, true)
	for _, m := range made {
		_ = m.Close() // it was only looked at
	}
	return f, err
}

// OpenRegular opens a regular file for reading by an os.Root, or by whatever
// else opens names. In a root it follows no link at the end and none out of it;
// anything but a regular file is an error, and is not touched.
func OpenRegular(in interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}, name string,
) (*os.File, error) {
	at, err := in.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return reopenRegular(at, name, unix.O_RDONLY)
}

// ReadRegular reads a file that OpenRegular opens.
func ReadRegular(in *os.Root, name string) ([]byte, error) {
	f, err := OpenRegular(in, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// reopenRegular opens what an O_PATH descriptor is about, if that is a regular
// file: to open a device can be enough to do harm.
func reopenRegular(at *os.File, name string, flags int) (*os.File, error) {
	info, err := at.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return reopen(at, name, flags)
}
