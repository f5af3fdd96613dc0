package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Relink makes the files of a layer once more, in the empty directory to: with
// hard links, and directories that have the attributes of those in from. No
// content is read. After an error the directory is worthless.
func Relink(from, to string) error {
	var dirs []string
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, from)
		if !d.IsDir() {
			return os.Link(name, to+rel)
		}
		if rel == "" {
			return nil // the store makes it
		}
		dirs = append(dirs, rel)
		return os.Mkdir(to+rel, 0o700)
	})
	if err != nil {
		return err
	}
	// A directory comes after what is in it: that would change its time.
	for _, rel := range slices.Backward(dirs) {
		if err := copyAttributes(from+rel, to+rel); err != nil {
			return err
		}
	}
	return nil
}

// copyAttributes gives a directory the attributes of another.
func copyAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return &fs.PathError{Op: "chmod", Path: to, Err: err}
	}
	names := make([]byte, 64<<10) // the kernel's limits, xattr(7)
	n, err := unix.Llistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		n, err = 0, nil // a file system without attributes has none to copy
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: from, Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "security.selinux") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("copy the attribute %s of %s: %w", name, from, err)
		}
	}
	times := []unix.Timespec{st.Mtim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}
