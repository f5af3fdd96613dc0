package buildcontext

import (
	"io/fs"
	"strconv"

	"github.com/pdidev/pdibuild/pkg/failure"
)

// KeptMode keeps the mode of what is copied.
const KeptMode = -1

// ParseMode reads a mode as recipes have it.
func ParseMode(text string) (int64, error) {
	if text == "" {
		return KeptMode, nil
	}
	mode, err := strconv.ParseInt(text, 8, 32)
	if err != nil {
		return 0, &failure.InputError{Subject: "mode " + text, Err: err}
	}
	return mode, nil
}

// ModeFor applies a file's mode; a directory can be entered where it can be read.
func ModeFor(mode int64, kind fs.FileMode) int64 {
	switch {
	case kind.IsDir():
		return mode | (mode&0o444)>>2
	case kind&fs.ModeSymlink != 0:
		return 0o777
	}
	return mode
}
