package ownership

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a system call of a supervised thread, which is blocked in it.
type call struct {
	listener int
	id       uint64
	tid      int
	number   int32
	args     [6]uint64
}

// pending reports whether the thread still waits for the answer. Only then is
// what was opened or read under its id really its own: ids are used again.
func (c *call) pending() bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.listener), ioctlNotifIDValid, uintptr(unsafe.Pointer(&c.id)))
	return errno == 0
}

// proc is the path of the thread's file in /proc.
func (c *call) proc(name string) string {
	return "/proc/" + strconv.Itoa(c.tid) + "/" + name
}

func (c *call) procFd(fd int32) string {
	return c.proc("fd/" + strconv.Itoa(int(fd)))
}

// comm is the name of the program, for messages.
func (c *call) comm() string {
	name, err := os.ReadFile(c.proc("comm"))
	if err != nil {
		return "process " + strconv.Itoa(c.tid)
	}
	return string(bytes.TrimSpace(name))
}

// pageSize is the smallest page: memory up to the next multiple of it is
// either all readable or not at all.
const pageSize = 4096

// readString reads a path from the thread's memory.
func (c *call) readString(addr uint64) (string, error) {
	const step = 256 // most paths are shorter
	buf := make([]byte, 0, step)
	for len(buf) < unix.PathMax {
		next := addr + uint64(len(buf))
		chunk := make([]byte, min(step, pageSize-next%pageSize))
		n, err := c.read(next, chunk)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(chunk[:n], 0); end >= 0 {
			return string(append(buf, chunk[:end]...)), nil
		}
		buf = append(buf, chunk[:n]...)
	}
	return "", unix.ENAMETOOLONG
}

func (c *call) read(addr uint64, to []byte) (int, error) {
	local := []unix.Iovec{{Base: &to[0]}}
	local[0].SetLen(len(to))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(to)}}
	n, err := unix.ProcessVMReadv(c.tid, local, remote, 0)
	if err == nil && n == 0 {
		err = unix.EFAULT
	}
	return n, err
}

func (c *call) write(addr uint64, from []byte) error {
	local := []unix.Iovec{{Base: &from[0]}}
	local[0].SetLen(len(from))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(from)}}
	n, err := unix.ProcessVMWritev(c.tid, local, remote, 0)
	if err == nil && n != len(from) {
		err = unix.EFAULT
	}
	return err
}

// readIDs reads an array of group ids.
func (c *call) readIDs(addr, count uint64) ([]uint32, error) {
	const maxGroups = 65536 // NGROUPS_MAX
	if count == 0 || count > maxGroups {
		return nil, nil
	}
	raw := make([]byte, 4*count)
	n, err := c.read(addr, raw)
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, n/4)
	for i := range ids {
		ids[i] = binary.NativeEndian.Uint32(raw[4*i:])
	}
	return ids, nil
}
