// Package outfile writes to what a user has named: a file, whatever links
// lead to it, or a pipe, standard output, a descriptor.
//
// Find looks at it, and changes nothing: call it before the work whose result is
// to go there. Create begins to write, Commit ends it. A file keeps its old
// content until then.
package outfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// An Error says why nothing can be written there, and what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func errorf(hint, format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...), hint}
}

// A WriteError says that writing to a place has failed.
type WriteError struct {
	// Name is that of the place, as the user has written it.
	Name string
	Err  error
}

func (e *WriteError) Error() string { return fmt.Sprintf("write %s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// A Place is where something is to be written.
type Place struct {
	// name is what the user has written.
	name string
	// path is where the links lead; empty for a descriptor.
	path string
	// fd is a descriptor of this process, or -1.
	fd int
	// info is what is there now; nil if nothing is.
	info fs.FileInfo
	// inPlace: the file cannot be replaced, but written to.
	inPlace bool
}

const mostLinks = 40 // as many as the kernel follows

// Stdout finds standard output.
func Stdout() (Place, error) { return descriptor("standard output", unix.Stdout) }

// Find finds what name leads to, and says with an *Error if it cannot be written.
func Find(name string) (Place, error) {
	path := name
	for range mostLinks {
		if fd, ok := descriptorOf(path); ok {
			return descriptor(name, fd)
		}
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return newFile(name, path)
		case err != nil:
			return Place{}, errorf("correct the path", "%w", err)
		case info.Mode()&fs.ModeSymlink == 0:
			return existing(name, path, info)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return Place{}, errorf("correct the path", "%w", err)
		}
		if !filepath.IsAbs(to) {
			to = directory(path) + "/" + to
		}
		path = to
	}
	return Place{}, errorf("remove the link, or name another file", "%s: %w", name, unix.ELOOP)
}

// directory is filepath.Dir, but it leaves what is before a "..", which can be a
// link.
func directory(path string) string {
	switch i := strings.LastIndexByte(path, '/'); i {
	case -1:
		return "."
	case 0:
		return "/"
	default:
		return path[:i]
	}
}

// descriptorOf returns the number of /dev/stdout, /dev/fd/N and the like.
// Opening these anew would begin at the start of a file, and is refused where
// the file belongs to another user.
func descriptorOf(path string) (fd int, ok bool) {
	switch path = filepath.Clean(path); path {
	case "/dev/stdout":
		return unix.Stdout, true
	case "/dev/stderr":
		return unix.Stderr, true
	}
	dir, base := filepath.Split(path)
	switch dir {
	case "/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", fmt.Sprintf("/proc/%d/fd/", os.Getpid()):
		fd, err := strconv.Atoi(base)
		return fd, err == nil
	}
	return 0, false
}

func descriptor(name string, fd int) (Place, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if closing, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || closing&unix.FD_CLOEXEC != 0 && fd > unix.Stderr { // one of this program's own
		return Place{}, errorf("redirect it, such as with '>FILE'", "%s is not open", name)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY || flags&unix.O_PATH != 0 {
		return Place{}, errorf("redirect it, such as with '>FILE'", "%s is not open for writing", name)
	}
	if term.IsTerminal(fd) {
		return Place{}, errorf("redirect it, such as with '>FILE', or send it to another program with '|'", "%s is a terminal", name)
	}
	return Place{name: name, fd: fd}, nil
}

// newFile is for a file that is to be made.
func newFile(name, path string) (Place, error) {
	if strings.HasSuffix(path, "/") {
		return Place{}, errorf("name a file in it", "%s is a directory", name)
	}
	dir := directory(path)
	info, err := os.Stat(dir)
	if err != nil {
		return Place{}, errorf(fmt.Sprintf("make it with 'mkdir -p %s', or correct the path", dir), "the directory for %s: %w", filepath.Base(path), err)
	}
	if !info.IsDir() {
		return Place{}, errorf("correct the path", "%s is not a directory", dir)
	}
	if err := writable(dir); err != nil {
		return Place{}, errorf("choose a directory that you may write to", "nothing can be written to %s: %w", dir, err)
	}
	return Place{name: name, path: path, fd: -1}, nil
}

// existing is for something that is there already.
func existing(name, path string, info fs.FileInfo) (Place, error) {
	p := Place{name: name, path: path, fd: -1, info: info}
	kind := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		err := p.replaceable()
		return p, err
	case mode&fs.ModeNamedPipe != 0, isNull(info):
		if err := unix.Access(path, unix.W_OK); err != nil {
			return p, errorf("choose another file", "%s cannot be written to: %w", name, err)
		}
		return p, nil
	case mode.IsDir():
		return p, errorf("name a file in it", "%s is a directory", name)
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	default:
		kind = "no ordinary file"
	}
	return p, errorf("name a file or a pipe; /dev/stdout is standard output", "%s is %s", name, kind)
}

func isNull(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == unix.Mkdev(1, 3)
}

// replaceable finds out whether the file can be replaced, or at least be
// written to.
func (p *Place) replaceable() error {
	dir := directory(p.path)
	err := writable(dir)
	if err == nil && p.mayRename(dir) && !isMountPoint(p.path) {
		return nil
	}
	if writing := unix.Access(p.path, unix.W_OK); writing == nil {
		p.inPlace = true
		return nil
	}
	if err == nil {
		err = unix.EPERM
	}
	return errorf("choose another file", "%s can be neither replaced nor written to: %w", p.name, err)
}

func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// mayRename: in a directory such as /tmp only the owner of a file replaces it.
func (p *Place) mayRename(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&fs.ModeSticky == 0 {
		return err == nil
	}
	me := uint32(os.Geteuid())
	return me == 0 || owner(p.info) == me || owner(info) == me
}

func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// isMountPoint: a single file that is mounted, as into a container, keeps its
// inode.
func isMountPoint(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// Name is what the user has written.
func (p Place) Name() string { return p.name }

// IsStdout reports whether it is standard output.
func (p Place) IsStdout() bool { return p.fd == unix.Stdout }

// Replaces reports whether a file is there whose content will be lost.
func (p Place) Replaces() bool { return p.info != nil && p.info.Mode().IsRegular() }

// Same reports whether two places are one, so that one would replace the
// other.
func (p Place) Same(e Place) bool {
	switch {
	case p.fd >= 0 || e.fd >= 0:
		return p.fd == e.fd
	case p.info != nil && e.info != nil:
		return os.SameFile(p.info, e.info) && !isNull(p.info)
	}
	return filepath.Clean(p.path) == filepath.Clean(e.path)
}

// A Writer writes to a place until its context ends.
type Writer struct {
	ctx  context.Context //nolint:containedctx // a Writer lives as long as the call that writes
	name string
	to   interface {
		io.Writer
		Commit() error
		Close() error
	}
	// blocks: its reader may keep a write waiting.
	blocks bool
}

// Write implements io.Writer.
func (w *Writer) Write(data []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if !w.blocks {
		n, err := w.to.Write(data)
		return n, w.failed(err)
	}
	type result struct {
		n   int
		err error
	}
	done, own := make(chan result, 1), slices.Clone(data)
	go func() {
		n, err := w.to.Write(own)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, w.failed(r.err)
	case <-w.ctx.Done(): // the write ends when the reader does
		return 0, w.ctx.Err()
	}
}

// Commit ends a complete output.
func (w *Writer) Commit() error { return w.failed(w.to.Commit()) }

// Close ends one that is not complete; after Commit it does nothing.
func (w *Writer) Close() error { return w.to.Close() }

// failed names the place; the system's own word for it may be another one.
func (w *Writer) failed(err error) error {
	if err == nil {
		return nil
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &WriteError{w.name, err}
}

// Create begins to write. It waits for the reader of a named pipe.
func (p Place) Create(ctx context.Context) (*Writer, error) {
	w := &Writer{ctx: ctx, name: p.name, blocks: p.fd >= 0 || p.isPipe()}
	var err error
	if p.isFile() && !p.inPlace {
		w.to, err = p.begin()
	} else {
		var f *os.File
		f, err = p.open(ctx)
		w.to = stream{f}
	}
	if err != nil {
		return nil, w.failed(err)
	}
	return w, nil
}

// isFile reports whether it is a file, perhaps one that is not there yet.
func (p Place) isFile() bool { return p.fd < 0 && (p.info == nil || p.info.Mode().IsRegular()) }

func (p Place) isPipe() bool { return p.info != nil && p.info.Mode()&fs.ModeNamedPipe != 0 }

// open opens what is not to be replaced.
func (p Place) open(ctx context.Context) (*os.File, error) {
	switch {
	case p.fd >= 0:
		return p.duplicate()
	case p.isPipe():
		return openPipe(ctx, p.path)
	}
	return os.OpenFile(p.path, os.O_WRONLY|os.O_TRUNC, 0)
}

// Write writes a whole file.
func (p Place) Write(ctx context.Context, data []byte) error {
	w, err := p.Create(ctx)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Commit()
}

// begin begins a file. One that it is to replace hands down its permissions and,
// as far as that is possible, its owner.
func (p Place) begin() (*atomicfile.File, error) {
	dir := directory(p.path)
	atomicfile.Clear(dir)
	f, err := atomicfile.Create(dir, p.path, 0o666)
	if err != nil || p.info == nil {
		return f, err
	}
	if st, ok := p.info.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
	if err := f.Chmod(p.info.Mode().Perm()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// A stream replaces nothing: what was written stays.
type stream struct{ *os.File }

// Commit closes it.
func (s stream) Commit() error { return s.File.Close() }

// Close closes it, if that was not done yet.
func (s stream) Close() error {
	if err := s.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// duplicate takes another number: a write to 1 or 2 that nobody reads would end
// the program.
func (p Place) duplicate() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return nil, &os.PathError{Op: "duplicate", Path: p.name, Err: err}
	}
	return os.NewFile(uintptr(fd), p.name), nil
}

const pipeInterval = 20 * time.Millisecond

// openPipe opens a named pipe. The kernel's own waiting for a reader could not
// be interrupted.
func openPipe(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.ENXIO) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pipeInterval):
		}
	}
}
