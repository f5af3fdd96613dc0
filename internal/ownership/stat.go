package ownership

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func handleStat(s *Supervisor, c *call) verdict {
	return s.statAt(c, unix.AT_FDCWD, 0, c.args[0:2])
}

func handleLstat(s *Supervisor, c *call) verdict {
	return s.statAt(c, unix.AT_FDCWD, unix.AT_SYMLINK_NOFOLLOW, c.args[0:2])
}

func handleFstatat(s *Supervisor, c *call) verdict {
	return s.statAt(c, int32(c.args[0]), int(int32(c.args[3])), c.args[1:3])
}

func handleFstat(s *Supervisor, c *call) verdict {
	return s.stat(c, location{dirfd: int32(c.args[0]), flags: unix.AT_EMPTY_PATH}, writeStat(c.args[1]))
}

func handleStatx(s *Supervisor, c *call) verdict {
	flags, mask := int(int32(c.args[2])), int(uint32(c.args[3]))
	loc, err := c.readLocation(int32(c.args[0]), c.args[1], flags)
	if err != nil {
		return proceed
	}
	return s.stat(c, loc, writeStatx(c.args[4], flags, mask))
}

// statAt serves the forms with a path; args are path and result.
func (s *Supervisor) statAt(c *call, dirfd int32, flags int, args []uint64) verdict {
	loc, err := c.readLocation(dirfd, args[0], flags)
	if err != nil {
		return proceed
	}
	return s.stat(c, loc, writeStat(args[1]))
}

// owner of a file, as a supervised process is to see it.
type owner struct{ uid, gid uint32 }

// stat answers for a file with a recorded owner, and leaves all others, and
// all errors, to the kernel.
func (s *Supervisor) stat(c *call, loc location, write func(*call, int, owner) error) verdict {
	if s.surelyUnrecorded(c, loc) {
		return proceed
	}
	fd, err := c.open(loc)
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	uid, gid, ok := s.recorded(fd)
	if !ok || !c.pending() || write(c, fd, owner{uid, gid}) != nil {
		return proceed
	}
	return success
}

// surelyUnrecorded finds out in one system call, for the two forms that are by
// far the most frequent, that a file has no recorded owner: an open file, and
// a name in an open directory that is not followed if it is a link. These can
// mean nothing else in the thread's own view of the file system.
func (s *Supervisor) surelyUnrecorded(c *call, loc location) bool {
	if s.others.size.Load() != 0 || loc.path == ".." || strings.Contains(loc.path, "/") {
		return false
	}
	base := c.proc("cwd")
	if loc.dirfd >= 0 {
		base = c.procFd(loc.dirfd)
	}
	if loc.path == "" {
		_, _, ok := ownerAttribute(unix.Getxattr, base)
		return !ok
	}
	if loc.follow() {
		return false
	}
	_, _, ok := ownerAttribute(unix.Lgetxattr, base+"/"+loc.path)
	return !ok
}

// writeStat stores a struct stat at addr.
func writeStat(addr uint64) func(*call, int, owner) error {
	return func(c *call, fd int, as owner) error {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		st.Uid, st.Gid = as.uid, as.gid
		return c.write(addr, unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st)))
	}
}

// writeStatx stores a struct statx at addr.
func writeStatx(addr uint64, flags, mask int) func(*call, int, owner) error {
	return func(c *call, fd int, as owner) error {
		var st unix.Statx_t
		flags := flags&^unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH
		if err := unix.Statx(fd, "", flags, mask, &st); err != nil {
			return err
		}
		st.Uid, st.Gid = as.uid, as.gid
		return c.write(addr, unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st)))
	}
}
