package builder

import (
	"errors"
	"syscall"
)

// hintFor says what can be done about an error that a host's limits cause.
func hintFor(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full: make room (or choose another --storage-root) and run the command again; finished steps are kept"
	case errors.Is(err, syscall.EDQUOT):
		return "your disk quota is used up: make room (or choose another --storage-root) and run the command again; finished steps are kept"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files: raise the limit with 'ulimit -n' and run the command again"
	case errors.Is(err, syscall.ENOMEM):
		return "the memory is used up: close other programs or build fewer stages at once with --jobs 1"
	}
	return ""
}
