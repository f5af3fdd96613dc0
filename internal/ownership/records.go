package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Entry is the recorded owner of a file that cannot carry [XattrName].
type Entry struct {
	// Path is the file's path when it was last given an owner, as the
	// supervisor sees it. If the file was renamed in its directory since, it
	// is the new path. It is a hint: Dev and Ino identify the file.
	Path     string
	UID, GID int
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
}

// records are the owners of files that cannot carry the attribute.
type records struct {
	size  atomic.Int64 // so that the common case, an empty table, costs nothing
	mu    sync.RWMutex
	files map[inode]record
}

func (r *records) get(st *unix.Statx_t) (uid, gid uint32, ok bool) {
	if r.size.Load() == 0 {
		return 0, 0, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.files[inodeOf(st)]
	if !ok || rec.fingerprint != fingerprintOf(st) {
		return 0, 0, false
	}
	return uint32(rec.UID), uint32(rec.GID), true
}

// set records the owner of an open file; 0:0 removes the record.
func (r *records) set(fd int, st *unix.Statx_t, uid, gid uint32) {
	path, err := os.Readlink(selfFd(fd))
	if err != nil {
		path = ""
	}
	r.put(st, Entry{Path: path, UID: int(uid), GID: int(gid)})
}

// add records an owner that was recorded earlier, if the file is there.
func (r *records) add(entry Entry) error {
	st, err := statxAt(unix.AT_FDCWD, entry.Path, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && (!validID(entry.UID) || !validID(entry.GID)) {
		err = fmt.Errorf("%d:%d is not a user and group id", entry.UID, entry.GID)
	}
	if err != nil {
		return &fs.PathError{Op: "record the owner of", Path: entry.Path, Err: err}
	}
	r.put(&st, entry)
	return nil
}

func (r *records) put(st *unix.Statx_t, entry Entry) {
	key := inodeOf(st)
	entry.Dev, entry.Ino = key.dev, key.ino
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.UID == 0 && entry.GID == 0 {
		delete(r.files, key)
	} else {
		if r.files == nil {
			r.files = make(map[inode]record)
		}
		r.files[key] = record{Entry: entry, fingerprint: fingerprintOf(st)}
	}
	r.size.Store(int64(len(r.files)))
}

// entries lists the records by path.
func (r *records) entries() []Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Entry, 0, len(r.files))
	for _, rec := range r.files {
		rec.Path = rec.currentPath()
		list = append(list, rec.Entry)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// currentPath looks for the file in its directory: programs make a file under
// a temporary name, give it its owner and rename it.
func (r *record) currentPath() string {
	if r.is(r.Path) {
		return r.Path
	}
	dir := filepath.Dir(r.Path)
	names, err := os.ReadDir(dir)
	if err != nil {
		return r.Path
	}
	for _, name := range names {
		if path := filepath.Join(dir, name.Name()); r.is(path) {
			return path
		}
	}
	return r.Path
}

func (r *record) is(path string) bool {
	st, err := statxAt(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && inodeOf(&st) == inode{r.Dev, r.Ino} && fingerprintOf(&st) == r.fingerprint
}

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
