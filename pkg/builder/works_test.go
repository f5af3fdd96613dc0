package builder

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the library says about a mount that has failed names each layer.
func TestMountErrorIsShort(t *testing.T) {
	err := fmt.Errorf("creating overlay mount to /merged, mount_data=%q: %w", strings.Repeat("/store/overlay/0123456789abcdef/diff:", 30), unix.EIO)
	short := mountError(fmt.Errorf("x: %w", err))
	if !errors.Is(short, unix.EIO) || short.Error() != "mount the working layer: x: creating overlay mount to /merged: input/output error" {
		t.Errorf("got %v", short)
	}
	for text, host := range map[string]bool{`creating overlay mount to /merged, mount_data="a:b": invalid argument`: true, "layer not known": false, "max depth exceeded": true} {
		if err := mountError(errors.New(text)); errors.As(err, new(*HostError)) != host {
			t.Errorf("got %#v of %s", err, text)
		}
	}
}
