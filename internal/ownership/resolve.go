package ownership

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// location names a file as the arguments of a system call do.
type location struct {
	dirfd int32
	path  string
	flags int // AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
}

func (l location) follow() bool { return l.flags&unix.AT_SYMLINK_NOFOLLOW == 0 }

// maxLinks is the kernel's limit of symbolic links in a path.
const maxLinks = 40

// readLocation reads the path at addr.
func (c *call) readLocation(dirfd int32, addr uint64, flags int) (location, error) {
	loc := location{dirfd: dirfd, flags: flags}
	if addr == 0 && flags&unix.AT_EMPTY_PATH != 0 { // Linux 6.11 takes that for ""
		return loc, nil
	}
	var err error
	loc.path, err = c.readString(addr)
	if err == nil && loc.path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		err = unix.ENOENT
	}
	return loc, err
}

// open finds the file that the thread means, in its own root directory,
// working directory and mount namespace, and opens it with O_PATH.
//
// The kernel resolves the path as long as that cannot differ from what it
// would do for the thread: from its root with the root kept, or from a
// directory without leaving that. Other paths are walked.
func (c *call) open(loc location) (int, error) {
	base, err := c.openBase(loc)
	if err != nil || loc.path == "" {
		return base, err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if !loc.follow() {
		how.Flags |= unix.O_NOFOLLOW
	}
	if loc.path[0] == '/' {
		how.Resolve |= unix.RESOLVE_IN_ROOT
	} else {
		how.Resolve |= unix.RESOLVE_BENEATH
	}
	fd, err := unix.Openat2(base, loc.path, &how)
	if needsWalk(loc.path, err) {
		return c.walk(base, loc.path, loc.follow())
	}
	_ = unix.Close(base)
	return fd, err
}

// needsWalk tells whether the kernel failed only because of the limits set, or
// because /proc/self means nothing to this process in another process-id
// namespace's /proc; /dev/fd leads there as well.
func needsWalk(path string, err error) bool {
	for _, limit := range []unix.Errno{unix.EXDEV, unix.ELOOP, unix.EAGAIN, unix.ENOSYS} {
		if errors.Is(err, limit) {
			return true
		}
	}
	return errors.Is(err, unix.ENOENT) && (strings.Contains(path, "proc/") || strings.Contains(path, "dev/"))
}

// openBase opens the directory in which the path starts, or the file itself
// for an empty path.
func (c *call) openBase(loc location) (int, error) {
	name := c.procFd(loc.dirfd)
	switch {
	case strings.HasPrefix(loc.path, "/"):
		name = c.proc("root")
	case loc.dirfd == unix.AT_FDCWD:
		name = c.proc("cwd")
	}
	return unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// walk resolves a path component by component. It closes start.
func (c *call) walk(start int, path string, follow bool) (int, error) {
	root, err := unix.Open(c.proc("root"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(start)
		return -1, err
	}
	defer unix.Close(root)
	w := walker{call: c, root: root, dir: start, rest: path}
	for w.rest != "" {
		if err := w.step(follow); err != nil {
			_ = unix.Close(w.dir)
			return -1, err
		}
	}
	return w.dir, nil
}

// walker is a path half resolved: dir is done, rest is not. It owns dir.
type walker struct {
	call      *call
	root, dir int
	rest      string
	links     int
}

func (w *walker) step(follow bool) error {
	if w.rest[0] == '/' {
		w.rest = strings.TrimLeft(w.rest, "/")
		return nil
	}
	name, rest, more := strings.Cut(w.rest, "/")
	rest = strings.TrimLeft(rest, "/")
	w.rest = rest
	switch name {
	case ".", "":
		return nil
	case "..":
		return w.up()
	}
	next, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(next, &st); err != nil {
		_ = unix.Close(next)
		return err
	}
	isLink := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if isLink && (more || follow) {
		defer unix.Close(next)
		return w.expand(next, name)
	}
	w.enter(next)
	if more && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return nil
}

func (w *walker) enter(dir int) {
	_ = unix.Close(w.dir)
	w.dir = dir
}

// up goes to the parent directory, but never above the thread's root.
func (w *walker) up() error {
	same, err := sameFile(w.dir, w.root)
	if err != nil || same {
		return err
	}
	parent, err := unix.Openat(w.dir, "..", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.enter(parent)
	return nil
}

// expand follows the symbolic link that is open as link and is called name in
// the current directory.
func (w *walker) expand(link int, name string) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	target, err := w.readlink(link, name)
	if err != nil {
		return err
	}
	if target == "" {
		return w.jump(name)
	}
	if strings.HasPrefix(target, "/") {
		dir, err := unix.FcntlInt(uintptr(w.root), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		w.enter(dir)
	}
	if w.rest != "" {
		target += "/" + w.rest
	}
	w.rest = strings.TrimLeft(target, "/")
	return nil
}

// readlink returns a link's text as the thread would read it, "" for a link of
// /proc that is not text.
func (w *walker) readlink(link int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(link, "", buf[:])
	target := string(buf[:max(n, 0)])
	if isProc(link) {
		own := target == strconv.Itoa(os.Getpid()) || strings.HasPrefix(target, strconv.Itoa(os.Getpid())+"/")
		switch {
		case name == "self":
			return w.call.idIn("NStgid", own), nil
		case name == "thread-self":
			return w.call.idIn("NStgid", own) + "/task/" + w.call.idIn("NSpid", own), nil
		case err == nil && !strings.HasPrefix(target, "self/"):
			return "", nil
		}
	}
	return target, err
}

// jump follows a link of /proc that is not text but leads to the file itself.
func (w *walker) jump(name string) error {
	fd, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.enter(fd)
	return nil
}

// idIn is the thread's id in a /proc: in ours, where the first of its ids
// counts, or else in that of the process-id namespace it is in itself.
func (c *call) idIn(field string, ours bool) string {
	status, err := os.ReadFile(c.proc("status"))
	if err != nil {
		return strconv.Itoa(c.tid)
	}
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		ids := strings.Fields(value)
		if key != field || len(ids) == 0 {
			continue
		}
		if ours {
			return ids[0]
		}
		return ids[len(ids)-1]
	}
	return strconv.Itoa(c.tid)
}

func isProc(fd int) bool {
	var fs unix.Statfs_t
	err := unix.Fstatfs(fd, &fs)
	return err == nil && fs.Type == unix.PROC_SUPER_MAGIC
}

// sameFile reports whether two descriptors are of the same file in the same
// mount.
func sameFile(a, b int) (bool, error) {
	const mask = unix.STATX_INO | unix.STATX_MNT_ID
	var sa, sb unix.Statx_t
	err := errors.Join(
		unix.Statx(a, "", unix.AT_EMPTY_PATH, mask, &sa),
		unix.Statx(b, "", unix.AT_EMPTY_PATH, mask, &sb))
	return sa.Ino == sb.Ino && sa.Dev_major == sb.Dev_major && sa.Dev_minor == sb.Dev_minor && sa.Mnt_id == sb.Mnt_id, err
}
