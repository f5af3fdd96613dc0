package builder

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// hintFor says what can be done about an error that a host's limits cause.
func hintFor(err error) string {
	switch reserved := (*layer.ReservedError)(nil); {
	case errors.As(err, &reserved):
		return "let the step remove the file, or give it another name"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files: raise the limit with 'ulimit -n' and run the command again"
	case errors.Is(err, syscall.ENOMEM):
		return "the memory is used up: close other programs or build fewer stages at once with --jobs 1"
	}
	return ""
}

// diskHint adds to the way out that nothing is lost.
func diskHint(e *HostError) *HostError {
	switch hosthelp.Topic(e.Topic) {
	case hosthelp.Disk, hosthelp.Inodes:
		e.Hint = "make room and run the command again, finished steps are kept; " + e.Hint
	case hosthelp.DiskErrors:
		e.Hint = "run the command again when the disk works, finished steps are kept; " + e.Hint
	}
	return e
}

// hostCause makes a *HostError of an error that a full or broken disk has
// caused. The error of a command in a step stays what it is: the disk can be
// one that the command has mounted.
func (b *Builder) hostCause(op string, err error) error {
	var host *HostError
	var step *StepError
	if err == nil || errors.As(err, &host) || errors.As(err, &step) && step.ExitCode >= 0 {
		return err
	}
	if beyond := b.ids.unpackError(err); beyond != nil {
		return atPlaceOf(err, beyond)
	}
	var topic hosthelp.Topic
	// The library unpacks layers in a process of its own: then there is only
	// the text. A registry's text is about its own disk.
	text := err.Error()
	var registry *RegistryError
	if errors.As(err, &registry) && registry.Op == "push" {
		text = ""
	}
	is := func(number syscall.Errno) bool {
		return errors.Is(err, number) || strings.Contains(text, number.Error())
	}
	switch {
	case is(syscall.ENOSPC) && b.inodesUsedUp():
		topic = hosthelp.Inodes
	case is(syscall.ENOSPC), is(syscall.EDQUOT):
		topic = hosthelp.Disk
	case is(syscall.EIO):
		topic = hosthelp.DiskErrors
	case is(syscall.EROFS):
		topic = hosthelp.StorePermission
	default:
		return err
	}
	// The host is to blame, not the step or the registry.
	switch {
	case step != nil:
		op, err = fmt.Sprintf("stage %q, step %d (%s)", step.Stage, step.Step, step.Text), step.Err
	case registry != nil:
		op, err = registry.Op+" "+registry.Image, registry.Err
	}
	b.works.leaveUntidy()
	return diskHint(hostError(op, err, topic))
}

// atPlaceOf puts the place that err is about before the operation of the host's
// error that takes its place.
func atPlaceOf(err error, host *HostError) *HostError {
	var step *StepError
	var registry *RegistryError
	var input *InputError
	switch {
	case errors.As(err, &step):
		host.Op = fmt.Sprintf("stage %q, step %d (%s): %s", step.Stage, step.Step, step.Text, host.Op)
	case errors.As(err, &registry):
		host.Op = registry.Op + " " + registry.Image + ": " + host.Op
	case errors.As(err, &input) && input.Subject != "":
		host.Op = input.Subject + ": " + host.Op
	}
	return host
}

func (b *Builder) inodesUsedUp() bool {
	var st unix.Statfs_t
	return unix.Statfs(b.store.GraphRoot(), &st) == nil && st.Files > 0 && st.Ffree == 0
}
