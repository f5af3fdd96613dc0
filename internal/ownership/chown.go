package ownership

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unchanged is the id -1: chown leaves it as it is.
const unchanged = 1<<32 - 1

func handleChown(s *Supervisor, c *call) verdict {
	return s.chownAt(c, unix.AT_FDCWD, 0, c.args[0:3])
}

func handleLchown(s *Supervisor, c *call) verdict {
	return s.chownAt(c, unix.AT_FDCWD, unix.AT_SYMLINK_NOFOLLOW, c.args[0:3])
}

func handleFchownat(s *Supervisor, c *call) verdict {
	return s.chownAt(c, int32(c.args[0]), int(int32(c.args[4])), c.args[1:4])
}

// handleFchown leaves what is no open file to the kernel. A descriptor opened
// with O_PATH is none to fchown.
func handleFchown(s *Supervisor, c *call) verdict {
	fd := int32(c.args[0])
	if flags, err := c.openFlags(fd); err != nil || flags&unix.O_PATH != 0 {
		return proceed
	}
	loc := location{dirfd: fd, flags: unix.AT_EMPTY_PATH}
	return s.chown(c, loc, uint32(c.args[1]), uint32(c.args[2]))
}

// chownAt serves the forms with a path; args are path, uid and gid.
func (s *Supervisor) chownAt(c *call, dirfd int32, flags int, args []uint64) verdict {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return proceed
	}
	loc, err := c.readLocation(dirfd, args[0], flags)
	if err != nil {
		return proceed
	}
	return s.chown(c, loc, uint32(args[1]), uint32(args[2]))
}

// chown answers with the kernel's own error for a path that can't be opened by
// leaving the call to it: it looks the path up before it looks at the ids.
func (s *Supervisor) chown(c *call, loc location, uid, gid uint32) verdict {
	fd, err := c.open(loc)
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	if !c.pending() {
		return proceed
	}
	if err := s.setOwner(fd, uid, gid); err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
		return failure(errno)
	}
	return success
}

// setOwner gives the file to uid:gid. First it gives it to the one user there
// is, to whom it should belong already: that has all the effects of a chown
// but the owner, such as removing set-user-ID bits and file capabilities, and
// fails as a chown does on a read-only file system or someone else's file.
func (s *Supervisor) setOwner(fd int, uid, gid uint32) error {
	s.chowns.Lock()
	defer s.chowns.Unlock()
	err := unix.Fchownat(fd, "", realID(uid, s.uid), realID(gid, s.gid), unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		return unix.EPERM // an owner outside of the user namespace
	}
	if err != nil || uid == unchanged && gid == unchanged {
		return err
	}
	st, err := statxAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	oldUID, oldGID, ok := s.recorded(fd)
	if !ok {
		oldUID, oldGID = st.Uid, st.Gid
	}
	if uid == unchanged {
		uid = oldUID
	}
	if gid == unchanged {
		gid = oldGID
	}
	return s.record(fd, &st, uid, gid)
}

func realID(wanted uint32, only int) int {
	if wanted == unchanged {
		return -1
	}
	return only
}

// record keeps the owner in the file's attribute or, if it can't have one, in
// the table.
func (s *Supervisor) record(fd int, st *unix.Statx_t, uid, gid uint32) error {
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
		var err error
		if uid == 0 && gid == 0 {
			err = unix.Removexattr(selfFd(fd), XattrName)
		} else {
			err = unix.Setxattr(selfFd(fd), XattrName, []byte(formatOwner(uid, gid)), 0)
		}
		switch {
		case errors.Is(err, unix.EACCES):
			return unix.EPERM
		case errors.Is(err, unix.ENODATA):
			return nil
		case !errors.Is(err, unix.ENOTSUP):
			return err
		}
	}
	s.others.set(fd, st, uid, gid)
	return nil
}

// recorded returns the owner recorded for an open file.
func (s *Supervisor) recorded(fd int) (uid, gid uint32, ok bool) {
	if uid, gid, ok = ownerAttribute(unix.Getxattr, selfFd(fd)); ok || s.others.size.Load() == 0 {
		return uid, gid, ok
	}
	st, err := statxAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, 0, false
	}
	return s.others.get(&st)
}

// ownerAttribute reads the attribute of a file with get. A value that nobody
// could have recorded counts as none.
func ownerAttribute(get func(path, name string, to []byte) (int, error), path string) (uid, gid uint32, ok bool) {
	var buf [64]byte
	n, err := get(path, XattrName, buf[:])
	if err != nil {
		return 0, 0, false
	}
	u, g, err := ParseOwner(string(buf[:n]))
	return uint32(u), uint32(g), err == nil
}

// openFlags are the flags of an open file of the thread.
func (c *call) openFlags(fd int32) (int, error) {
	info, err := os.ReadFile(c.proc("fdinfo/" + strconv.Itoa(int(fd))))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(info), "flags:")
	value, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	flags, err := strconv.ParseInt(value, 8, 64)
	return int(flags), err
}
