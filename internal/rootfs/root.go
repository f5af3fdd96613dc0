// Package rootfs reads the files below a directory the way a process would
// whose root that directory is: a symbolic link, absolute or relative, never
// leads out of it, whatever happens to the tree meanwhile.
//
// Open a directory, then name files as they are named inside. Names come from
// recipes, images, archives and contexts; none of them may be joined with the
// host's path of a root. Every access starts at a file descriptor of the root
// and is resolved by the kernel (openat2(2), RESOLVE_IN_ROOT) or, where the
// kernel lacks that, one component at a time.
//
// There are two kinds of access. Stat, Open, ReadFile, ReadDir, Glob and
// Resolve follow links as a process in the root would. Those whose names end in
// Exact follow none: a file behind a link is not there. They are for names that
// Resolve, Glob or Walk has returned and for the names of a layer's entries.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Root is a directory tree seen from inside. Its methods may be called at the
// same time. Errors are *fs.PathError with the name as it is in the root.
type Root struct {
	// dir is an O_PATH descriptor of the directory.
	dir *os.File
	// entries is for looking at what is directly in it.
	entries    *os.Root
	entriesErr error
	once       sync.Once
}

// Open opens the root in a directory of the host.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Root{dir: f}, nil
}

// Sub opens a directory as a root of its own and follows no link.
func (r *Root) Sub(name string) (*Root, error) {
	f, err := r.handle("open", name, exact|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Root{dir: f}, nil
}

// Close closes the root. Files that were opened in it stay open.
func (r *Root) Close() error {
	if r.entries != nil {
		_ = r.entries.Close() // it was only looked at
	}
	return r.dir.Close()
}

// HostPath is where the root was opened, for the host's own business: mounts,
// hard links between layers, and messages. Nothing may be joined to it.
func (r *Root) HostPath() string { return r.dir.Name() }

// Stat follows all links.
func (r *Root) Stat(name string) (fs.FileInfo, error) { return r.stat("stat", name, 0) }

// Lstat follows the links on the way, but not the last one.
func (r *Root) Lstat(name string) (fs.FileInfo, error) { return r.stat("lstat", name, unix.O_NOFOLLOW) }

// LstatExact follows no link.
func (r *Root) LstatExact(name string) (fs.FileInfo, error) {
	base := inside(name)
	if base == "" || base == ".." || strings.Contains(base, "/") {
		return r.stat("lstat", name, exact)
	}
	// One system call, where callers look at file after file of a directory.
	r.once.Do(func() { r.entries, r.entriesErr = os.OpenRoot(descriptorPath(r.dir)) })
	if r.entriesErr != nil {
		return nil, pathError("lstat", name, r.entriesErr)
	}
	info, err := r.entries.Lstat(base)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return info, nil
}

// Open opens a regular file or a directory for reading; anything else is an
// error, and is not touched.
func (r *Root) Open(name string) (*os.File, error) {
	return r.open(name, 0)
}

// OpenExact opens a file that was found to be a regular one, and follows no
// link. In a tree at rest that costs less than Open.
func (r *Root) OpenExact(name string) (*os.File, error) {
	fd, err := r.openat2(name, exact|unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if isMissing(err) {
		return r.open(name, exact)
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Handle returns an O_PATH descriptor of a file, following all links. Mounts
// and system calls take it as /proc/self/fd/N.
func (r *Root) Handle(name string) (*os.File, error) { return r.handle("open", name, 0) }

// HandleExact is like Handle and follows no link, the last one included.
func (r *Root) HandleExact(name string) (*os.File, error) { return r.handle("open", name, exact) }

// ReadFile follows all links. What is not a regular file is an error.
func (r *Root) ReadFile(name string) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, pathError("read", name, err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	return data, nil
}

// ReadIfExists returns the content of a file, nil if there is none.
func (r *Root) ReadIfExists(name string) ([]byte, error) {
	data, err := r.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// ReadDir lists a directory, sorted by name; it follows all links.
func (r *Root) ReadDir(name string) ([]fs.DirEntry, error) { return r.readDir(name, 0) }

// ReadDirExact is like ReadDir and follows no link: a link to a directory is
// not a directory.
func (r *Root) ReadDirExact(name string) ([]fs.DirEntry, error) { return r.readDir(name, exact) }

// ReadlinkExact returns the target of a symbolic link whose path has no links.
func (r *Root) ReadlinkExact(name string) (string, error) {
	f, err := r.handle("readlink", name, exact)
	if err != nil {
		return "", err
	}
	defer f.Close()
	target, err := readlinkat(int(f.Fd()), "")
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return target, nil
}

// Resolve follows all links in name and returns the real path, absolute and
// clean. What is not there is kept as it is written, so that a new file can be
// named.
func (r *Root) Resolve(name string) (string, error) {
	real, f, err := r.walk(name, 0)
	if f != nil {
		_ = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", pathError("resolve", name, err)
	}
	return real, nil
}

// exact marks an access that follows no link. It is no flag of the kernel's.
const exact = 1 << 62

func (r *Root) stat(op, name string, flags uint64) (fs.FileInfo, error) {
	f, err := r.handle(op, name, flags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return info, nil
}

// open looks before it opens: to open a device can be enough to do harm.
func (r *Root) open(name string, flags uint64) (*os.File, error) {
	at, err := r.handle("open", name, flags)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return nil, pathError("open", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return reopen(at, name, unix.O_RDONLY)
	case unix.S_IFLNK: // and exact
		return nil, pathError("open", name, unix.ENOTDIR)
	}
	return nil, pathError("open", name, ErrNotRegular)
}

// ErrNotRegular says that a file is none with content, but a pipe or a device.
var ErrNotRegular = errors.New("not a regular file")

// reopen opens what an O_PATH descriptor is about.
func reopen(at *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Open(descriptorPath(at), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *Root) readDir(name string, flags uint64) ([]fs.DirEntry, error) {
	f, err := r.handle("readdir", name, flags|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in, err := os.OpenRoot(descriptorPath(f))
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	defer in.Close()
	dir, err := in.Open(".")
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	defer dir.Close()
	return sortedEntries(dir, name)
}

// handle returns an O_PATH descriptor. Flags are exact, O_NOFOLLOW and
// O_DIRECTORY.
func (r *Root) handle(op, name string, flags uint64) (*os.File, error) {
	fd, err := r.openat2(name, flags|unix.O_PATH)
	if isMissing(err) {
		return r.handleByWalking(op, name, flags)
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openat2 opens name in the root; see openat2(2).
func (r *Root) openat2(name string, flags uint64) (fd int, err error) {
	clean := inside(name)
	how := unix.OpenHow{Flags: flags&^exact | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if flags&exact != 0 {
		how.Flags |= unix.O_NOFOLLOW
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	for range 128 {
		// EAGAIN: something was renamed meanwhile, so the kernel cannot be
		// sure about a "..".
		fd, err = unix.Openat2(int(r.dir.Fd()), "./"+clean, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if flags&exact != 0 && errors.Is(err, unix.ELOOP) {
		err = unix.ENOTDIR
	}
	return fd, err
}

// handleByWalking is for kernels before 5.6 and sandboxes without openat2.
func (r *Root) handleByWalking(op, name string, flags uint64) (*os.File, error) {
	_, f, err := r.walk(name, flags&(exact|unix.O_NOFOLLOW))
	if err != nil {
		return nil, pathError(op, name, err)
	}
	if flags&unix.O_DIRECTORY != 0 {
		if info, err := f.Stat(); err != nil || !info.IsDir() {
			return nil, pathError(op, name, errors.Join(err, unix.ENOTDIR, f.Close()))
		}
	}
	return f, nil
}

// isMissing reports whether the kernel, or a sandbox, does not know openat2.
func isMissing(err error) bool {
	if !errors.Is(err, unix.EPERM) {
		return errors.Is(err, unix.ENOSYS)
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		_ = unix.Close(fd)
	}
	return err != nil
}

// maxLinks is how many links a path may have; the kernel's limit is 40, see
// path_resolution(7).
const maxLinks = 255

// walk follows name one component at a time. It returns the real path and, when
// everything is there, an O_PATH descriptor; else fs.ErrNotExist, with the rest
// of the path as it is written. Flags are exact, O_NOFOLLOW or 0.
func (r *Root) walk(name string, flags uint64) (string, *os.File, error) {
	w := walker{root: r.dir, flags: flags}
	defer w.close()
	if rest, err := w.follow(name); err != nil {
		return path.Join(w.path(), rest), nil, err
	}
	f, err := duplicate(w.top())
	return w.path(), f, err
}

// duplicate returns another descriptor of f.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// A walker is at a file of a root. It goes up by what it has passed, never by
// the ".." of a directory that may have been moved.
type walker struct {
	root   *os.File
	flags  uint64
	passed []*os.File
	names  []string
	links  int
	// missing is called for a component that does not exist, and makes it or
	// returns why not; may be nil.
	missing func(component string, isLast bool) error
}

// follow goes to name. When it fails, rest is the part that it has not come to.
func (w *walker) follow(name string) (rest string, err error) {
	left := strings.Split(strings.Trim(name, "/"), "/")
	for len(left) > 0 {
		component, isLast := left[0], len(left) == 1
		more, err := w.enter(component, isLast)
		if errors.Is(err, unix.ENOENT) && w.missing != nil {
			if err = w.missing(component, isLast); err == nil {
				continue // it may be something else by now
			}
		}
		if err != nil {
			return path.Join("/", path.Join(left...)), err
		}
		left = append(more, left[1:]...)
	}
	return "", nil
}

func (w *walker) close() {
	for _, f := range w.passed {
		_ = f.Close()
	}
}

func (w *walker) top() *os.File {
	if len(w.passed) == 0 {
		return w.root
	}
	return w.passed[len(w.passed)-1]
}

func (w *walker) path() string { return path.Join("/", path.Join(w.names...)) }

func (w *walker) leave(n int) {
	for _, f := range w.passed[n:] {
		_ = f.Close()
	}
	w.passed, w.names = w.passed[:n], w.names[:n]
}

// enter goes to one component. For a link it returns what has to be entered
// instead.
func (w *walker) enter(component string, isLast bool) (more []string, err error) {
	switch component {
	case "", ".":
		return nil, nil
	case "..":
		w.leave(max(0, len(w.passed)-1))
		return nil, nil
	}
	fd, err := unix.Openat(int(w.top().Fd()), component, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), component)
	target, err := readlinkat(fd, "")
	if err == nil && (w.flags == 0 || !isLast) {
		_ = f.Close()
		if w.flags&exact != 0 {
			return nil, unix.ENOTDIR
		}
		if w.links++; w.links > maxLinks {
			return nil, unix.ELOOP
		}
		if path.IsAbs(target) {
			w.leave(0)
		}
		return strings.Split(target, "/"), nil
	}
	w.passed, w.names = append(w.passed, f), append(w.names, component)
	return nil, nil
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// inside is name relative to the root, with the ".." at its end, if any, left to
// the kernel: what is before them may be a link.
func inside(name string) string { return strings.TrimLeft(name, "/") }

// descriptorPath is the name under which system calls take a descriptor.
func descriptorPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func pathError(op, name string, err error) error {
	var number unix.Errno
	if !errors.As(err, &number) {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return &fs.PathError{Op: op, Path: name, Err: number}
}

// sortedEntries lists a directory that was opened by an os.Root: then the
// entries have looked at their files already, not later by a path of the host.
func sortedEntries(f *os.File, name string) ([]fs.DirEntry, error) {
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	sortEntries(entries)
	return entries, nil
}
