package imagestore

import (
	"errors"

	"golang.org/x/sys/unix"
)

// IsDiskError reports whether a disk that is full or broken is to blame: what
// was asked of it is then not answered.
func IsDiskError(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO)
}
