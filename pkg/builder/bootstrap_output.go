package builder

import (
	"bytes"
	"fmt"
	"strings"
)

// withoutChatter leaves out what mmdebstrap says of options that are always
// the same here; the log has it.
func withoutChatter(lines func([]byte)) func([]byte) {
	if lines == nil {
		return nil
	}
	return func(line []byte) {
		if !bytes.HasPrefix(line, []byte("I: skipping ")) && !bytes.HasPrefix(line, []byte("I: running --")) {
			lines(line)
		}
	}
}

// bootstrapFailure is the reason that a bootstrap tool and its apt gave in the
// last lines of their output, or else the exit status. Both begin reasons with
// "E: "; the first is the cause of the others.
func bootstrapFailure(tail []string, status int) error {
	for _, line := range tail {
		if reason, ok := strings.CutPrefix(line, "E: "); ok {
			return fmt.Errorf("%s (exit status %d)", reason, status)
		}
	}
	return fmt.Errorf("exit status %d", status)
}
