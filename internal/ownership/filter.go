package ownership

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
)

// x32Bit marks the x32 variant of a system call on amd64; no other
// architecture has numbers that high.
const x32Bit = 0x40000000

// filterProgram notifies the supervisor of the given system calls and allows
// all others, and all of other instruction sets.
func filterProgram(numbers []int32) []unix.SockFilter {
	const (
		load        = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jumpGreater = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret         = unix.BPF_RET | unix.BPF_K
	)
	n := uint8(len(numbers))
	program := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: jumpEqual, K: auditArch, Jf: n + 2},
		{Code: load, K: dataNumber},
		{Code: jumpGreater, K: x32Bit, Jt: n},
	}
	for i, number := range numbers {
		program = append(program, unix.SockFilter{Code: jumpEqual, K: uint32(number), Jt: n - uint8(i)})
	}
	return append(program,
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
	)
}

// installFilter puts the program on the calling thread and returns the
// descriptor on which its notifications arrive.
func installFilter(program []unix.SockFilter) (int, error) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	// Without this flag (Linux 5.19) a signal that arrives while a call is
	// being answered makes the process ask again; that is only slower.
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		flags|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	if errno == unix.EINVAL {
		fd, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	}
	switch errno {
	case 0:
		return int(fd), nil
	case unix.EBUSY:
		return -1, fmt.Errorf("another program already answers system calls of this process; builds cannot be nested here: %w", errno)
	case unix.EACCES:
		return -1, fmt.Errorf("no CAP_SYS_ADMIN in the user namespace: %w", errno)
	default:
		return -1, fmt.Errorf("install the seccomp filter: %w", errno)
	}
}
