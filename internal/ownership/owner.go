package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// XattrName is the extended attribute in which a file's owner is recorded, as
// "uid:gid" in decimal. A file without it belongs to its real owner.
const XattrName = "user.pdibuild.owner"

// maxID is the largest user or group id; the one above it means "no change" to
// chown.
const maxID = 1<<32 - 2

// Owner reads the owner recorded for the file at path; a symbolic link is not
// followed. ok is false if none is recorded, as it always is for symbolic
// links, devices, pipes and sockets and on a file system without user extended
// attributes; for these see [Supervisor.Owner].
func Owner(path string) (uid, gid int, ok bool, err error) {
	var buf [64]byte
	n, err := unix.Lgetxattr(path, XattrName, buf[:])
	if isNoRecord(err) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, &fs.PathError{Op: "read the recorded owner of", Path: path, Err: err}
	}
	uid, gid, err = ParseOwner(string(buf[:n]))
	if err != nil {
		return 0, 0, false, &fs.PathError{Op: "read the recorded owner of", Path: path, Err: err}
	}
	return uid, gid, true, nil
}

// Set records uid:gid as the owner of the regular file or directory at path;
// a symbolic link is not followed. Recording 0:0 removes the record: root is
// the owner that files have without one.
func Set(path string, uid, gid int) error {
	if !validID(uid) || !validID(gid) {
		return &fs.PathError{Op: "record the owner of", Path: path, Err: fmt.Errorf("%d:%d is not a user and group id", uid, gid)}
	}
	var err error
	if uid == 0 && gid == 0 {
		if err = unix.Lremovexattr(path, XattrName); isNoRecord(err) {
			err = nil
		}
	} else {
		err = unix.Lsetxattr(path, XattrName, []byte(formatOwner(uint32(uid), uint32(gid))), 0)
	}
	if err != nil {
		return &fs.PathError{Op: "record the owner of", Path: path, Err: err}
	}
	return nil
}

// ParseOwner reads the value of [XattrName]: two decimal ids with a colon
// between them, nothing else.
func ParseOwner(value string) (uid, gid int, err error) {
	u, g, found := strings.Cut(value, ":")
	if !found {
		return 0, 0, fmt.Errorf("recorded owner %q: want uid:gid", value)
	}
	if uid, err = parseID(u); err == nil {
		gid, err = parseID(g)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("recorded owner %q: %w", value, err)
	}
	return uid, gid, nil
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxID || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("%q is not an id from 0 to %d", s, uint32(maxID))
	}
	return int(n), nil
}

func validID(id int) bool { return id >= 0 && id <= maxID }

func formatOwner(uid, gid uint32) string {
	return strconv.FormatUint(uint64(uid), 10) + ":" + strconv.FormatUint(uint64(gid), 10)
}

func isNoRecord(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP)
}
