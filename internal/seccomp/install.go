package seccomp

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Install puts the program on the calling thread, which has to be locked, and
// on all that it starts. It can't be taken off. The thread needs CAP_SYS_ADMIN
// in its user namespace; set-user-id programs keep their meaning.
func Install(program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	return nil
}

// Missing reports whether Install failed because there are no filters here:
// the kernel, or what plays the kernel, has none, or a sandbox around this
// process forbids seccomp(2), by a filter of its own.
func Missing(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM)
}
