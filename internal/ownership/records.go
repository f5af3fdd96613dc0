package ownership

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// Entry is the recorded owner of a file that cannot carry [XattrName].
type Entry struct {
	// Path is the file's path in [Options.Root]. It is empty if the file has
	// gone, or is not there but in a file system mounted on it.
	Path     string
	UID, GID int
	// Dev and Ino identify the file, also by its further names.
	Dev, Ino uint64
}

// inode identifies a file while it exists.
type inode struct{ dev, ino uint64 }

// fingerprint tells a file from a later one with the same inode number.
type fingerprint struct {
	kind  uint16
	birth unix.StatxTimestamp // zero where the file system does not know it
}

type record struct {
	Entry
	fingerprint
	// pin is an O_PATH descriptor of the file, nil where there are too many
	// of them. While it is open the file keeps its inode number, which an
	// overlay forgets otherwise when it has copied the file up; the kernel
	// says what the file is called now; and no other file gets the number.
	pin *os.File
	// known says that the record was there at the beginning: it stays when
	// the file is given back to root.
	known bool
}

// records are the owners of files that cannot carry the attribute.
type records struct {
	root  *rootfs.Root
	owned bool         // root was opened here
	size  atomic.Int64 // so that the common case, an empty table, costs nothing
	mu    sync.RWMutex
	files map[inode]record
}

func (r *records) begin(root *rootfs.Root, known []Entry) (err error) {
	if r.root = root; root == nil {
		r.owned = true
		if r.root, err = rootfs.Open("/"); err != nil {
			return fmt.Errorf("record owners: %w", err)
		}
	}
	for _, entry := range known {
		if err := r.add(entry); err != nil {
			return errors.Join(err, r.close())
		}
	}
	return nil
}

func (r *records) get(st *unix.Statx_t) (uid, gid uint32, ok bool) {
	if r.size.Load() == 0 {
		return 0, 0, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.files[inodeOf(st)]
	if !ok || !rec.is(st) {
		return 0, 0, false
	}
	return uint32(rec.UID), uint32(rec.GID), true
}

// is reports whether a file with the record's inode number is the file that was
// recorded. One that was there at the beginning is not removed from the layer
// below, whose number it has, so that no other file can have that.
func (r *record) is(st *unix.Statx_t) bool {
	switch found := fingerprintOf(st); {
	case r.pin != nil, r.known:
		return r.kind == found.kind
	default:
		return r.fingerprint == found
	}
}

// set records the owner of an open file; 0:0 removes the record.
func (r *records) set(fd int, st *unix.Statx_t, uid, gid uint32) {
	entry := Entry{UID: int(uid), GID: int(gid)}
	if name, err := os.Readlink(selfFd(fd)); err == nil {
		entry.Path = name
	}
	var pin *os.File
	if !carriesAttribute(st) && pins.take() {
		if dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			pin = os.NewFile(uintptr(dup), entry.Path)
		} else {
			pins.give()
		}
	}
	r.put(st, record{Entry: entry, pin: pin})
}

// add records an owner that was recorded earlier, if the file is there.
func (r *records) add(entry Entry) error {
	if !validID(entry.UID) || !validID(entry.GID) {
		return &fs.PathError{Op: "record the owner of", Path: entry.Path, Err: fmt.Errorf("%d:%d is not a user and group id", entry.UID, entry.GID)}
	}
	f, st, err := r.open(entry.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record an owner: %w", err)
	}
	if carriesAttribute(&st) || !pins.take() {
		_ = f.Close() // it was only looked at
		f = nil
	}
	if !carriesAttribute(&st) {
		r.put(&st, record{Entry: entry, pin: f, known: true})
	}
	return nil
}

// open finds a file of the root; it follows no link.
func (r *records) open(name string) (*os.File, unix.Statx_t, error) {
	f, err := r.root.HandleExact(name)
	if err != nil {
		return nil, unix.Statx_t{}, err
	}
	st, err := statxAt(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err != nil {
		_ = f.Close() // it was only looked at
		return nil, st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return f, st, nil
}

func carriesAttribute(st *unix.Statx_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFREG || kind == unix.S_IFDIR
}

func (r *records) put(st *unix.Statx_t, rec record) {
	key := inodeOf(st)
	rec.Dev, rec.Ino, rec.fingerprint = key.dev, key.ino, fingerprintOf(st)
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.files[key]; ok && old.is(st) {
		rec.known = rec.known || old.known
		if old.pin != nil {
			rec.unpin()
			rec.pin = old.pin
		}
	} else if ok {
		old.unpin()
	}
	if rec.UID == 0 && rec.GID == 0 && !rec.known {
		rec.unpin()
		delete(r.files, key)
	} else {
		if r.files == nil {
			r.files = make(map[inode]record)
		}
		r.files[key] = rec
	}
	r.size.Store(int64(len(r.files)))
}

func (r *record) unpin() {
	if r.pin != nil {
		_ = r.pin.Close() // it was never written to
		r.pin = nil
		pins.give()
	}
}

// entries lists the records by path.
func (r *records) entries() []Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	prefix := r.prefix()
	list := make([]Entry, 0, len(r.files))
	for _, rec := range r.files {
		rec.Path = r.currentPath(&rec, prefix)
		list = append(list, rec.Entry)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Ino, b.Ino))
	})
	return list
}

// prefix is how the kernel calls the root in the mounts of this process.
func (r *records) prefix() string {
	root, err := r.root.Handle("/")
	if err != nil {
		return ""
	}
	defer root.Close()
	name, err := os.Readlink(selfFd(int(root.Fd())))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(name, "/")
}

// currentPath is the file's path in the root. The kernel says how it is called,
// in the mounts of whoever has opened it: those of this process, or those of the
// command, whose root it is. Of a file without a pin is known what it was called
// when it was given its owner: programs make it under a temporary name, give it
// its owner and rename it, so all of its directory is looked at.
func (r *records) currentPath(rec *record, prefix string) string {
	called := rec.Path
	if rec.pin != nil {
		if name, err := os.Readlink(selfFd(int(rec.pin.Fd()))); err == nil {
			called = name
		}
	}
	for _, name := range []string{called, strings.TrimPrefix(called, prefix+"/")} {
		if name = path.Clean("/" + name); r.isAt(rec, name) {
			return name
		}
		if rec.pin != nil {
			continue
		}
		entries, err := r.root.ReadDirExact(path.Dir(name))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if other := path.Join(path.Dir(name), e.Name()); r.isAt(rec, other) {
				return other
			}
		}
	}
	return ""
}

func (r *records) isAt(rec *record, name string) bool {
	f, st, err := r.open(name)
	if err != nil {
		return false
	}
	_ = f.Close() // it was only looked at
	return inodeOf(&st) == inode{rec.Dev, rec.Ino} && rec.is(&st)
}

// close lets go of the files.
func (r *records) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, rec := range r.files {
		rec.unpin()
		r.files[key] = rec
	}
	if r.owned {
		return r.root.Close()
	}
	return nil
}

// pins counts the descriptors of all supervisors: half of what this process may
// have open.
var pins pinCount

type pinCount struct {
	taken atomic.Int64
	limit sync.Once
	most  int64
}

// take reports whether there is room for one more.
func (p *pinCount) take() bool {
	p.limit.Do(func() {
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
			p.most = int64(min(limit.Cur, 1<<20) / 2)
		}
	})
	if p.taken.Add(1) > p.most {
		p.taken.Add(-1)
		return false
	}
	return true
}

func (p *pinCount) give() { p.taken.Add(-1) }

func statxAt(dirfd int, path string, flags int) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(dirfd, path, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	return st, err
}

func inodeOf(st *unix.Statx_t) inode {
	return inode{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
}

func fingerprintOf(st *unix.Statx_t) fingerprint {
	return fingerprint{kind: st.Mode & unix.S_IFMT, birth: st.Btime}
}

// selfFd is the path under which calls without an *at form take a descriptor,
// also one opened with O_PATH.
func selfFd(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
