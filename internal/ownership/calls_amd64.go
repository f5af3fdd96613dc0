package ownership

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

func chownCalls() map[int32]handler {
	return map[int32]handler{
		unix.SYS_CHOWN:    handleChown,
		unix.SYS_LCHOWN:   handleLchown,
		unix.SYS_FCHOWN:   handleFchown,
		unix.SYS_FCHOWNAT: handleFchownat,
	}
}

func statCalls() map[int32]handler {
	return map[int32]handler{
		unix.SYS_STAT:       handleStat,
		unix.SYS_LSTAT:      handleLstat,
		unix.SYS_FSTAT:      handleFstat,
		unix.SYS_NEWFSTATAT: handleFstatat,
		unix.SYS_STATX:      handleStatx,
	}
}
