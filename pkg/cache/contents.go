package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// Contents remembers the SHA-256 of files, so that a file that nobody has
// touched is not read to be identified again. It is safe for use by several
// goroutines.
//
// A file counts as untouched while device, inode, size, modification time and
// change time are what they were. The kernel sets the change time with each
// write, and programs cannot set it. Three things are never remembered:
// what was touched so shortly before it was read that another change could
// bear the same time, what is dated in the future, and what is on a file
// system that may have change times of another kind (NFS, FUSE, squashfs).
type Contents struct {
	file string

	mu    sync.Mutex
	known map[contentID]content
	// former counts those that the file had, used those that were asked for
	// or learnt now, which are all that is written; learnt says that there
	// are some that the file lacks.
	former, used int
	learnt       bool
	// devices says which file systems can be trusted.
	devices map[uint64]bool
	// settled is the constant, but in tests.
	settled time.Duration
}

// A contentID is what a file's inode says while its content is the same.
type contentID struct {
	Device, Inode    uint64
	Size             int64
	Modified, Change int64 // nanoseconds
}

type content struct {
	sum  [sha256.Size]byte
	used bool
}

// contentRecord is the length of an entry of the file.
const contentRecord = 5*8 + sha256.Size

const (
	contentsMagic = "pdibuild contents 1\n"
	// settled is how long ago a file must have been touched: longer than
	// clocks of file systems need to go on.
	settled = 2 * time.Second
	// contentsKept is how long the memory of a directory is kept that nobody
	// builds in any more.
	contentsKept = 60 * 24 * time.Hour
)

// OpenContents reads what is remembered about the files of a directory, from
// a file in dir. A file that is missing or damaged remembers nothing.
func OpenContents(dir, of string) *Contents {
	sum := sha256.Sum256([]byte(of))
	c := &Contents{
		file: filepath.Join(dir, fmt.Sprintf("%x", sum[:12])), devices: map[uint64]bool{}, settled: settled,
		known: map[contentID]content{},
	}
	data, err := os.ReadFile(c.file)
	if err != nil {
		return c
	}
	data, ok := bytes.CutPrefix(data, []byte(contentsMagic))
	if !ok || len(data) < sha256.Size {
		return c
	}
	body, end := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(want[:], end) {
		return c
	}
	c.known = make(map[contentID]content, len(body)/contentRecord)
	for ; len(body) >= contentRecord; body = body[contentRecord:] {
		number := func(n int) uint64 { return binary.LittleEndian.Uint64(body[n*8:]) }
		id := contentID{number(0), number(1), int64(number(2)), int64(number(3)), int64(number(4))}
		c.known[id] = content{sum: [sha256.Size]byte(body[5*8 : contentRecord])}
	}
	c.former = len(c.known)
	return c
}

// Get returns the digest of the regular file that info describes, if it is
// known.
func (c *Contents) Get(info fs.FileInfo) (sum [sha256.Size]byte, ok bool) {
	id, ok := identify(info)
	if !ok {
		return sum, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.known[id]
	if ok && !found.used {
		c.use(id, found.sum)
	}
	return found.sum, ok
}

// Put remembers the digest of an open file, which before describes as it was
// before it was read, unless it may be another one by now.
func (c *Contents) Put(f *os.File, before fs.FileInfo, sum [sha256.Size]byte) {
	after, err := f.Stat()
	if err != nil {
		return
	}
	id, ok := identify(before)
	now, ok2 := identify(after)
	if !ok || !ok2 || id != now {
		return
	}
	limit := time.Now().Add(-c.settled).UnixNano()
	if id.Change > limit || id.Modified > limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trusts(f, id.Device) {
		c.use(id, sum)
		c.learnt = true
	}
}

func (c *Contents) use(id contentID, sum [sha256.Size]byte) {
	if !c.known[id].used {
		c.used++
	}
	c.known[id] = content{sum: sum, used: true}
}

// trusts reports whether the kernel keeps the change times of f's file system.
func (c *Contents) trusts(f *os.File, device uint64) bool {
	trusted, ok := c.devices[device]
	if !ok {
		var st unix.Statfs_t
		err := unix.Fstatfs(int(f.Fd()), &st)
		trusted = err == nil && slices.Contains(trustedFileSystems, int64(st.Type)) //nolint:unconvert // not an int64 on every architecture
		c.devices[device] = trusted
	}
	return trusted
}

// trustedFileSystems are magic numbers; see statfs(2) and linux/magic.h, for
// bcachefs its own sources, for Lustre and GPFS their user tools.
var trustedFileSystems = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC,
	0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */, 0x0bd00bd0 /* lustre */, 0x47504653, /* gpfs */
}

func identify(info fs.FileInfo) (contentID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return contentID{}, false
	}
	return contentID{
		Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, //nolint:unconvert // not a uint64 on every architecture
		Modified: syscall.TimespecToNsec(st.Mtim), Change: syscall.TimespecToNsec(st.Ctim),
	}, true
}

// Save writes what has been asked for or learnt since Contents was opened, if
// that is not what the file says already, and removes memories that are old.
func (c *Contents) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.learnt && c.used == c.former {
		return nil
	}
	data := make([]byte, 0, len(contentsMagic)+c.used*contentRecord+sha256.Size)
	data = append(data, contentsMagic...)
	for id, known := range c.known {
		if !known.used {
			continue
		}
		for _, n := range []uint64{id.Device, id.Inode, uint64(id.Size), uint64(id.Modified), uint64(id.Change)} {
			data = binary.LittleEndian.AppendUint64(data, n)
		}
		data = append(data, known.sum[:]...)
	}
	end := sha256.Sum256(data[len(contentsMagic):])
	unfinished := filepath.Join(filepath.Dir(c.file), "new")
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		return fmt.Errorf("remember the files of the build context: %w", err)
	}
	removeAbandoned(unfinished)
	if err := atomicfile.WriteIn(unfinished, c.file, append(data, end[:]...), 0o600); err != nil {
		return fmt.Errorf("remember the files of the build context: %w", err)
	}
	c.learnt = false
	return removeOlder(filepath.Dir(c.file), time.Now().Add(-contentsKept))
}

// removeOlder removes files that were last written before a time.
func removeOlder(dir string, limit time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(limit) {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
