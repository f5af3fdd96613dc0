package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// Relink makes the files of a layer once more, in the empty directory to: with
// hard links, and directories that have the attributes of those in from. No
// content is read. After an error the directory is worthless.
func Relink(from *rootfs.Root, to string) error {
	var dirs []string
	err := from.Walk("/", func(f *rootfs.File) error {
		switch {
		case !f.Info.IsDir():
			return os.Link(f.HostPath(), to+f.Name)
		case f.Name == "/":
			return nil // the store makes it
		}
		dirs = append(dirs, f.Name)
		return os.Mkdir(to+f.Name, 0o700)
	})
	if err != nil {
		return err
	}
	var c rootfs.Cursor
	defer func() { _ = c.Close() }() // it was only looked at
	// A directory comes after what is in it: that would change its time.
	for _, name := range slices.Backward(dirs) {
		f, err := c.FileExact(from, name)
		if err != nil {
			return err
		}
		if err := copyAttributes(f, to+name); err != nil {
			return err
		}
	}
	return nil
}

// copyAttributes gives a directory the attributes of another.
func copyAttributes(f *rootfs.File, to string) error {
	st, ok := f.Info.Sys().(*syscall.Stat_t)
	if !ok {
		return &fs.PathError{Op: "lstat", Path: f.Name, Err: errors.ErrUnsupported}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return &fs.PathError{Op: "chmod", Path: to, Err: err}
	}
	if err := copyXattrs(f.HostPath(), to, func(name string) bool { return !strings.HasPrefix(name, "security.selinux") }); err != nil {
		return err
	}
	modified := unix.NsecToTimespec(f.Info.ModTime().UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{modified, modified}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}

// InheritRoot gives the directory that becomes the root of a layer the owner,
// mode and extended attributes of the layer below. The storage library does it
// in part: it forgets attributes, the sticky bit, and what the umask masks.
func InheritRoot(below, root string) error {
	var old, now unix.Stat_t
	if err := unix.Lstat(below, &old); err != nil {
		return &fs.PathError{Op: "lstat", Path: below, Err: err}
	}
	if err := unix.Lstat(root, &now); err != nil {
		return &fs.PathError{Op: "lstat", Path: root, Err: err}
	}
	if old.Uid != now.Uid || old.Gid != now.Gid {
		if err := os.Lchown(root, int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
	}
	if old.Mode != now.Mode {
		if err := unix.Chmod(root, old.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: root, Err: err}
		}
	}
	return copyXattrs(below, root, func(name string) bool { return name == OwnerXattr || keepXattr(name) })
}

func copyXattrs(from, to string, keep func(name string) bool) error {
	names := make([]byte, 64<<10) // the kernel's limits, xattr(7)
	n, err := unix.Llistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil // a file system without attributes has none to copy
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: from, Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || !keep(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("copy the attribute %s to %s: %w", name, to, err)
		}
	}
	return nil
}
