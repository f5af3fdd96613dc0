//go:build integration

package torture

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A disk is a file system that passes everything on to a real directory, until
// it is told to fail.
type disk struct {
	fuse.RawFileSystem
	mu sync.Mutex
	// done counts operations by kind; every counts all.
	done  map[string]int
	fault fault
	// broken says that the fault has happened.
	broken bool
}

// ownDisk is the kind of file system that a disk is.
const ownDisk = "torture-disk"

// every stands for operations of all kinds.
const every = "any operation"

// A fault is an input/output error at the nth operation of a kind. With gone,
// all that follow fail as well.
type fault struct {
	kind string
	nth  int
	gone bool
}

// diskStore is a store on a disk of its own.
func (s *scene) diskStore(t *testing.T, name string) (*store, *disk) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can mount a file system that everybody may use")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("SKIPPED: no file system can be made here: %v", err)
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("SKIPPED: fusermount3 is not installed; apt-get install fuse3")
	}
	st := s.newStore(t, name)
	real := filepath.Join(filepath.Dir(st.dir), "real")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	// The kernel has taken the mask of whoever makes a file into account; that
	// of this process is not to be taken as well.
	mask := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(mask) })
	st.wrap = []string{"sh", "-c", `umask 022; exec "$0" "$@"`}
	d, err := mountDisk(real, st.dir)
	if err != nil {
		t.Skipf("SKIPPED: no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", st.dir).Run() }) // gone already where all went well
	return st, d
}

func mountDisk(real, at string) (*disk, error) {
	root, err := fs.NewLoopbackRoot(real)
	if err != nil {
		return nil, err
	}
	long := time.Minute // nobody else changes files
	opt := &fs.Options{NullPermissions: true, EntryTimeout: &long, AttrTimeout: &long, NegativeTimeout: &long, MountOptions: fuse.MountOptions{
		FsName: ownMount, Name: ownDisk, AllowOther: true, Options: []string{"default_permissions", "suid", "dev"},
		DisabledCapabilities: fuse.CAP_PASSTHROUGH, // the kernel would read and write without asking us
	}}
	d := &disk{RawFileSystem: fs.NewNodeFS(root, opt), done: map[string]int{}}
	server, err := fuse.NewServer(d, at, &opt.MountOptions)
	if err != nil {
		return nil, err
	}
	go server.Serve()
	return d, server.WaitMount()
}

// breakAt makes the disk fail at an operation from now on.
func (d *disk) breakAt(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done, d.fault, d.broken = map[string]int{}, f, false
}

// heal makes the disk work, and says whether it has failed.
func (d *disk) heal() (failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	failed = d.broken
	d.fault, d.broken = fault{}, false
	return failed
}

func (d *disk) counts() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.done)
}

// try does an operation, or fails.
func (d *disk) try(kind string, do func() fuse.Status) fuse.Status {
	if d.fails(kind) {
		return fuse.EIO
	}
	return do()
}

func (d *disk) fails(kind string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done[kind]++
	d.done[every]++
	if d.broken {
		return d.fault.gone
	}
	d.broken = d.fault.nth > 0 && d.done[d.fault.kind] == d.fault.nth && (d.fault.kind == kind || d.fault.kind == every)
	return d.broken
}

func (d *disk) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return d.try("lookup", func() fuse.Status { return d.RawFileSystem.Lookup(cancel, header, name, out) })
}

func (d *disk) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return d.try("getattr", func() fuse.Status { return d.RawFileSystem.GetAttr(cancel, in, out) })
}

func (d *disk) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return d.try("getattr", func() fuse.Status { return d.RawFileSystem.Statx(cancel, in, out) })
}

func (d *disk) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return d.try("setattr", func() fuse.Status { return d.RawFileSystem.SetAttr(cancel, in, out) })
}

func (d *disk) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return d.try("mknod", func() fuse.Status { return d.RawFileSystem.Mknod(cancel, in, name, out) })
}

func (d *disk) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return d.try("mkdir", func() fuse.Status { return d.RawFileSystem.Mkdir(cancel, in, name, out) })
}

func (d *disk) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return d.try("unlink", func() fuse.Status { return d.RawFileSystem.Unlink(cancel, header, name) })
}

func (d *disk) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return d.try("rmdir", func() fuse.Status { return d.RawFileSystem.Rmdir(cancel, header, name) })
}

func (d *disk) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	return d.try("rename", func() fuse.Status { return d.RawFileSystem.Rename(cancel, in, from, to) })
}

func (d *disk) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return d.try("link", func() fuse.Status { return d.RawFileSystem.Link(cancel, in, name, out) })
}

func (d *disk) Symlink(cancel <-chan struct{}, header *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	return d.try("symlink", func() fuse.Status { return d.RawFileSystem.Symlink(cancel, header, to, name, out) })
}

func (d *disk) Readlink(cancel <-chan struct{}, header *fuse.InHeader) (to []byte, status fuse.Status) {
	status = d.try("readlink", func() (s fuse.Status) { to, s = d.RawFileSystem.Readlink(cancel, header); return s })
	return to, status
}

func (d *disk) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, name string, to []byte) (n uint32, status fuse.Status) {
	status = d.try("getxattr", func() (s fuse.Status) { n, s = d.RawFileSystem.GetXAttr(cancel, header, name, to); return s })
	return n, status
}

func (d *disk) ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, to []byte) (n uint32, status fuse.Status) {
	status = d.try("listxattr", func() (s fuse.Status) { n, s = d.RawFileSystem.ListXAttr(cancel, header, to); return s })
	return n, status
}

func (d *disk) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	return d.try("setxattr", func() fuse.Status { return d.RawFileSystem.SetXAttr(cancel, in, name, data) })
}

func (d *disk) RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	return d.try("removexattr", func() fuse.Status { return d.RawFileSystem.RemoveXAttr(cancel, header, name) })
}

func (d *disk) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return d.try("create", func() fuse.Status { return d.RawFileSystem.Create(cancel, in, name, out) })
}

// Tmpfile makes no files without a name: the library could give them none later,
// which overlay needs.
func (d *disk) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

func (d *disk) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return d.try("open", func() fuse.Status { return d.RawFileSystem.Open(cancel, in, out) })
}

func (d *disk) Read(cancel <-chan struct{}, in *fuse.ReadIn, to []byte) (r fuse.ReadResult, status fuse.Status) {
	status = d.try("read", func() (s fuse.Status) { r, s = d.RawFileSystem.Read(cancel, in, to); return s })
	return r, status
}

// Writev is called for every write.
func (d *disk) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (n uint32, status fuse.Status) {
	status = d.try("write", func() (s fuse.Status) { n, s = d.RawFileSystem.Writev(cancel, in, data); return s })
	return n, status
}

func (d *disk) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (n uint32, status fuse.Status) {
	status = d.try("copy_file_range", func() (s fuse.Status) { n, s = d.RawFileSystem.CopyFileRange(cancel, in); return s })
	return n, status
}

func (d *disk) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return d.try("fsync", func() fuse.Status { return d.RawFileSystem.Fsync(cancel, in) })
}

func (d *disk) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return d.try("fsync", func() fuse.Status { return d.RawFileSystem.FsyncDir(cancel, in) })
}

func (d *disk) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return d.try("fallocate", func() fuse.Status { return d.RawFileSystem.Fallocate(cancel, in) })
}

func (d *disk) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return d.try("opendir", func() fuse.Status { return d.RawFileSystem.OpenDir(cancel, in, out) })
}

func (d *disk) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return d.try("readdir", func() fuse.Status { return d.RawFileSystem.ReadDir(cancel, in, out) })
}

func (d *disk) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return d.try("readdir", func() fuse.Status { return d.RawFileSystem.ReadDirPlus(cancel, in, out) })
}

func (d *disk) StatFs(cancel <-chan struct{}, header *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return d.try("statfs", func() fuse.Status { return d.RawFileSystem.StatFs(cancel, header, out) })
}
