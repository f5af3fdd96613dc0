package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// store opens the image store and looks at all that depends on it.
func (x *examination) store(ctx context.Context) {
	b, err := builder.Open(x.opt.Store)
	if err != nil {
		x.failed("store", err, hosthelp.Store)
		if x.opt.Store.Root != "" { // what is wrong may be the disk
			x.disk(existing(x.opt.Store.Root))
		}
		return
	}
	facts := b.Facts(ctx)
	if err := b.Close(); err != nil {
		x.failed("store", err, hosthelp.Store)
	} else {
		x.driver(facts)
	}
	x.fileSystem(facts)
	x.attributes(facts)
	x.disk(facts.Root)
	x.steps(facts)
	x.configuration(facts)
}

// existing is the nearest directory above path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" || path == "." {
			return path
		}
		path = filepath.Dir(path)
	}
}

func (x *examination) driver(f builder.Facts) {
	const check = "store"
	found := fmt.Sprintf("%s at %s", f.Driver, f.Root)
	switch {
	case f.Driver == "vfs" && f.OverlayErr == nil:
		x.bad(check, Warning, found+", although overlay works there", hosthelp.VFSKept)
	case f.Driver == "vfs":
		x.bad(check, Warning, fmt.Sprintf("%s, because no overlay can be used there (%v)", found, f.OverlayErr), hosthelp.VFS)
	case f.MountProgram != "":
		x.bad(check, Note, found+", mounted by "+f.MountProgram, hosthelp.Fuse)
	default:
		x.good(check, found)
	}
	if f.PodmanVFS != "" {
		x.bad("podman", Note, "podman takes vfs: "+f.PodmanVFS, hosthelp.PodmanDriver)
	}
}

// fileSystems are the kinds that matter, by their magic numbers; see statfs(2).
func fileSystems() map[int64]string {
	return map[int64]string{
		unix.NFS_SUPER_MAGIC: "nfs", unix.SMB_SUPER_MAGIC: "smb", unix.SMB2_SUPER_MAGIC: "smb2", unix.CIFS_SUPER_MAGIC: "cifs",
		unix.AFS_SUPER_MAGIC: "afs", unix.V9FS_MAGIC: "9p", 0x0bd00bd0: "lustre", 0x47504653: "gpfs", 0x19830326: "beegfs", unix.CEPH_SUPER_MAGIC: "ceph",
		unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.FUSE_SUPER_MAGIC: "fuse",
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs",
	}
}

func (x *examination) fileSystem(f builder.Facts) {
	const check = "file-system"
	var st unix.Statfs_t
	if err := unix.Statfs(f.Root, &st); err != nil {
		x.failed(check, err, hosthelp.Store)
		return
	}
	x.fileSystemOf(int64(st.Type)&0xffffffff, f.Root)
}

// fileSystemOf says what a kind of file system, by its magic number, means for a
// store at root.
func (x *examination) fileSystemOf(magic int64, root string) {
	const check = "file-system"
	name, known := fileSystems()[magic]
	if !known {
		name = fmt.Sprintf("kind %#x", magic)
	}
	switch name {
	case "nfs", "smb", "smb2", "cifs", "afs", "9p", "lustre", "gpfs", "beegfs", "ceph":
		x.bad(check, Warning, name, hosthelp.NetworkFileSystem)
	case "tmpfs", "ramfs":
		x.bad(check, Warning, name, hosthelp.MemoryFileSystem)
	case "overlay":
		x.findings = append(x.findings, Finding{Check: check, Status: Note, Found: "overlay, so this may be a container", Means: "an overlay on an overlay is often refused; then layers are copied", User: "mount a volume there, such as '-v DIR:" + root + "'"})
	default:
		x.good(check, name)
	}
}

// attributes tries what the emulation of owners needs.
func (x *examination) attributes(f builder.Facts) {
	const check = "extended-attributes"
	file, err := atomicfile.Temporary(f.Root)
	if err == nil {
		defer file.Close()
		err = unix.Fsetxattr(int(file.Fd()), "user.pdibuild.doctor", []byte("1"), 0)
	}
	switch {
	case err == nil:
		x.good(check, "files can have them")
	case errors.Is(err, unix.ENOTSUP) && f.SingleID:
		x.bad(check, Error, "this file system has none", hosthelp.Attributes)
	case errors.Is(err, unix.ENOTSUP):
		x.findings = append(x.findings, Finding{Check: check, Status: Note, Found: "this file system has none", Means: "they are not needed with more than one user id"})
	default:
		x.bad(check, Warning, err.Error(), hosthelp.Store)
	}
}

// What a small build needs, and what a usual one does.
const (
	leastRoom, usualRoom   = 200 << 20, 5 << 30
	leastFiles, usualFiles = 20_000, 200_000
)

func (x *examination) disk(dir string) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		x.failed("disk", err, hosthelp.Store)
		return
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:unconvert // not an int64 on every architecture
	found := fmt.Sprintf("%s free at %s", size(free), dir)
	switch {
	case free < leastRoom:
		x.bad("disk", Error, found+"; a small image needs "+size(leastRoom), hosthelp.Disk)
	case free < usualRoom:
		x.bad("disk", Warning, found, hosthelp.Disk)
	default:
		x.good("disk", found)
	}
	if st.Files == 0 { // btrfs and others make them as they need them
		return
	}
	found = fmt.Sprintf("%d free at %s", st.Ffree, dir)
	switch {
	case st.Ffree < leastFiles:
		x.bad("inodes", Error, fmt.Sprintf("%s; a small image needs %d", found, leastFiles), hosthelp.Inodes)
	case st.Ffree < usualFiles:
		x.bad("inodes", Warning, found, hosthelp.Inodes)
	default:
		x.good("inodes", found)
	}
}

// steps says how commands are run.
func (x *examination) steps(f builder.Facts) {
	switch {
	case f.IsolationErr != nil:
		x.failed("isolation", f.IsolationErr, hosthelp.Sandbox)
	case f.Runtime == "" && !f.SingleID:
		x.bad("isolation", Note, f.Isolation, hosthelp.Runtime)
	default:
		x.good("isolation", f.Isolation)
	}
	switch {
	case f.OwnershipErr == nil:
		x.good("file-owners", "can be emulated")
	case f.SingleID:
		x.bad("file-owners", Error, "cannot be emulated: "+f.OwnershipErr.Error(), hosthelp.Seccomp)
	default:
		x.findings = append(x.findings, Finding{Check: "file-owners", Status: Note, Found: "cannot be emulated: " + f.OwnershipErr.Error(), Means: "this is not needed with more than one user id"})
	}
}

// configuration looks at the files of the containers libraries.
func (x *examination) configuration(f builder.Facts) {
	file := func(check, path string, err error, topic hosthelp.Topic) {
		switch {
		case err != nil:
			x.bad(check, Error, err.Error(), topic)
		case path == "":
			x.good(check, "none on this host: the built-in default applies")
		default:
			x.good(check, path)
		}
	}
	file("policy", f.Policy, f.PolicyErr, hosthelp.Policy)
	file("registries-conf", f.RegistriesConf, f.RegistriesConfErr, hosthelp.RegistriesConf)
	switch {
	case f.CredentialsErr != nil:
		x.bad("credentials", Warning, f.CredentialsErr.Error(), hosthelp.Credentials)
	case len(f.Credentials) == 0:
		x.good("credentials", "none; 'podman login REGISTRY' adds some")
	default:
		x.good("credentials", "for "+strings.Join(f.Credentials, ", "))
	}
}

func (x *examination) temporaryDirectory() {
	const check = "temporary-directory"
	dir := x.opt.TemporaryDirectory
	if dir == "" {
		dir = "/tmp"
	}
	file, err := atomicfile.Temporary(dir)
	if err != nil {
		x.bad(check, Warning, err.Error(), hosthelp.TemporaryDirectory)
		return
	}
	_, writeErr := file.Write(make([]byte, 64<<10))
	if err := errors.Join(writeErr, file.Close()); err != nil {
		x.bad(check, Warning, err.Error(), hosthelp.TemporaryDirectory)
		return
	}
	x.good(check, dir)
}

// size is a number of bytes for people.
func size(n uint64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
