package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRaces is how often a mount is tried when its mount point is removed in the
// moment before.
const maxRaces = 100

// errWrongKind is about a mount point that is a file where the mount is a
// directory, or the other way round, or in a file system where there is none.
var errWrongKind = errors.New("it cannot be mounted there")

// stage makes a place in scratch for a mount: a directory or a file that no
// other process uses.
func (r *root) stage(dir bool) (string, error) {
	r.staged++
	place := filepath.Join(r.scratch, "mount-"+strconv.Itoa(r.staged))
	if dir {
		return place, os.Mkdir(place, 0o755)
	}
	return place, os.WriteFile(place, nil, 0o600)
}

// attach moves the mount at a place in scratch to target in the root, resolving
// symbolic links inside the root and making what is missing.
func (r *root) attach(place, target string) error {
	mounted, err := os.OpenFile(place, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", target, err)
	}
	for range maxRaces {
		if err = r.attachOnce(place, target, mounted); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return errors.Join(pointError(target, err), mounted.Close())
	}
	r.mounts = append(r.mounts, mounted)
	return nil
}

// pointError explains why nothing is mounted at target.
func pointError(target string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("mount point %s: it is removed whenever it has been made, by another step that shares a mount with this one: %w", target, err)
	case errors.Is(err, errWrongKind):
		return &MountPointError{fmt.Errorf("mount point %s: %w", target, err)}
	case errors.Is(err, unix.EROFS):
		// Not the kernel's words, which are about a disk.
		return &MountPointError{fmt.Errorf("mount point %s: it is in a mount that cannot be written to, so it has to exist there before", target)}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrPermission):
		return &MountPointError{fmt.Errorf("mount point %s: %w: %w", target, errWrongKind, err)}
	}
	return fmt.Errorf("mount point %s: %w", target, err)
}

func (r *root) attachOnce(place, target string, mounted *os.File) error {
	info, err := mounted.Stat()
	if err != nil {
		return err
	}
	at, made, err := r.inside.Make(target, info.IsDir())
	for _, m := range made {
		// What is made in a directory that others use at this moment stays:
		// to remove a mount point takes away the mounts of others from it.
		if r.isOwn(m.Dir) {
			r.made = append(r.made, m)
		} else {
			_ = m.Close()
		}
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := r.checkPoint(at, info.IsDir()); err != nil {
		return err
	}
	return unix.Mount(place, descriptorPath(at), "", unix.MS_MOVE, "")
}

// checkPoint makes sure that something can be mounted at a file of the root.
func (r *root) checkPoint(at *os.File, dir bool) error {
	info, err := at.Stat()
	if err != nil {
		return err
	}
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(int(at.Fd()), &fsys); err != nil {
		return err
	}
	root, err := r.inside.Stat("/")
	switch {
	case err != nil:
		return err
	case fsys.Type == unix.PROC_SUPER_MAGIC && len(r.mounts) > 0: // the first is /proc itself
		return fmt.Errorf("%w: it is in /proc, which is the kernel's", errWrongKind)
	case os.SameFile(info, root):
		return fmt.Errorf("%w: it would hide the whole image", errWrongKind)
	case dir && !info.IsDir():
		return fmt.Errorf("%w: it is a file, and what is mounted is a directory", errWrongKind)
	case !dir && info.IsDir():
		return fmt.Errorf("%w: it is a directory, and what is mounted is a file", errWrongKind)
	}
	return nil
}

// isOwn reports whether a directory is in the working layer itself and not in
// something that is mounted there.
func (r *root) isOwn(dir *os.File) bool {
	id, err := mountID(dir)
	return err == nil && id == r.layer
}

// ownMount identifies the working layer's own mount.
func (r *root) ownMount() (string, error) {
	top, err := r.inside.Handle("/")
	if err != nil {
		return "", err
	}
	defer top.Close()
	return mountID(top)
}

// mountID identifies the mount that a file was opened in; see
// proc_pid_fdinfo(5).
func mountID(f *os.File) (string, error) {
	info, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return "", err
	}
	defer info.Close()
	lines := bufio.NewScanner(info)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "mnt_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", errors.Join(errors.New("the kernel does not tell"), lines.Err())
}

// tidy takes the mounts off and removes the mount points that were not there
// before, so that they do not become part of the image. It works before and
// after pivot.
func (r *root) tidy() error {
	for i := len(r.mounts) - 1; i >= 0; i-- {
		_ = unix.Unmount(descriptorPath(r.mounts[i]), unix.MNT_DETACH)
		_ = r.mounts[i].Close()
	}
	var errs []error
	for i := len(r.made) - 1; i >= 0; i-- {
		if err := errors.Join(r.made[i].Undo(), r.made[i].Close()); err != nil {
			errs = append(errs, fmt.Errorf("tidy up mount points: %w", err))
		}
	}
	r.mounts, r.made = nil, nil
	return errors.Join(errs...)
}

// descriptorPath is the name under which system calls take a descriptor.
func descriptorPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
