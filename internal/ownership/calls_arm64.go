package ownership

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

func chownCalls() map[int32]handler {
	return map[int32]handler{
		unix.SYS_FCHOWN:   handleFchown,
		unix.SYS_FCHOWNAT: handleFchownat,
	}
}

func statCalls() map[int32]handler {
	return map[int32]handler{
		unix.SYS_FSTAT:   handleFstat,
		unix.SYS_FSTATAT: handleFstatat,
		unix.SYS_STATX:   handleStatx,
	}
}
