package worker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// mountCopy mounts something at place that looks like source and can be written
// to. What is written goes to the directory spare: an overlay where the kernel
// can make one, else everything is copied there before. It may have been used for
// the same source already.
func mountCopy(source *os.File, place, spare string) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() && mountOverlay(source, place, spare) == nil {
		return nil
	}
	whole := filepath.Join(spare, "copy")
	if _, err := os.Lstat(whole); errors.Is(err, fs.ErrNotExist) {
		if err := copyAll(source, spare, whole); err != nil {
			return fmt.Errorf("copy what the step may write to: %w", err)
		}
	}
	return unix.Mount(whole, place, "", unix.MS_BIND, "")
}

// mountOverlay fails where the file system of spare or of source cannot be part
// of an overlay, or the one is in the other.
func mountOverlay(source *os.File, place, spare string) error {
	upper, err := os.Open(spare) // its path may have characters that options do not take
	if err != nil {
		return err
	}
	defer upper.Close()
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(spare, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	info, err := source.Stat()
	if err == nil {
		err = likeSource(filepath.Join(spare, "upper"), info) // it shows as the top directory
	}
	if err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/upper,workdir=%[2]s/work", descriptorPath(source), descriptorPath(upper))
	if inUserNamespace() {
		options += ",userxattr"
	}
	return unix.Mount("overlay", place, "overlay", unix.MS_NODEV, options)
}

// inUserNamespace reports whether this process has fewer ids than the host.
func inUserNamespace() bool {
	ranges, err := idRanges("/proc/self/uid_map")
	return err == nil && (len(ranges) != 1 || ranges[0].size < 1<<32-1)
}

// copyAll copies source to a new file or directory in spare. Sockets, pipes and
// devices are left out, and so is spare itself.
func copyAll(source *os.File, spare, whole string) error {
	unfinished := filepath.Join(spare, "unfinished")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	info, err := source.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = copyTree(source, spare, unfinished)
	default:
		err = copyContent(func() (io.ReadCloser, error) { return os.Open(descriptorPath(source)) }, unfinished, info)
	}
	if err != nil {
		return err
	}
	return os.Rename(unfinished, whole)
}

func copyTree(source *os.File, spare, to string) error {
	own, err := os.Stat(spare)
	if err != nil {
		return err
	}
	tree, err := rootfs.Open(descriptorPath(source))
	if err != nil {
		return err
	}
	defer tree.Close()
	var finish []func() error // gives directories their times
	err = tree.Walk("/", func(f *rootfs.File) error {
		name := filepath.Join(to, f.Name)
		switch {
		case os.SameFile(f.Info, own):
			return fs.SkipDir
		case f.Info.IsDir():
			finish = append(finish, func() error { return likeSource(name, f.Info) })
			return os.Mkdir(name, 0o700)
		case f.Info.Mode()&fs.ModeSymlink != 0:
			target, err := f.Readlink()
			if err != nil {
				return err
			}
			return os.Symlink(target, name)
		case f.Info.Mode().IsRegular():
			return copyContent(f.Opener(), name, f.Info)
		}
		return nil
	})
	for i := len(finish) - 1; i >= 0 && err == nil; i-- {
		err = finish[i]()
	}
	return err
}

func copyContent(open func() (io.ReadCloser, error), to string, info fs.FileInfo) error {
	in, err := open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return likeSource(to, info)
}

// likeSource gives a copy the owner, mode and time of what it is a copy of. Owners
// that this user namespace does not have stay root.
func likeSource(to string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Lchown(to, int(st.Uid), int(st.Gid))
	}
	return errors.Join(os.Chmod(to, info.Mode()), os.Chtimes(to, time.Time{}, info.ModTime()))
}
