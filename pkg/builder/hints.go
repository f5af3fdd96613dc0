package builder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/outfile"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// hintFor says what can be done about an error that a host's limits cause.
func hintFor(err error) (string, fail.Code) {
	switch reserved := (*layer.ReservedError)(nil); {
	case errors.As(err, &reserved):
		return "let the step remove the file, or give it another name", ""
	case errors.Is(err, errOtherPlatform):
		return "build for the image's platform, or start from an image for this one", fail.WrongPlatform
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files: raise the limit with 'ulimit -n' and run the command again", ""
	case errors.Is(err, syscall.ENOMEM):
		return "the memory is used up: close other programs or build fewer stages at once", fail.MemoryUsedUp
	}
	return "", ""
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
	// The library unpacks layers in a process of its own: then there is only
	// the text. A registry's text is about its own disk.
	text := err.Error()
	var registry *RegistryError
	if errors.As(err, &registry) && registry.Op == "push" {
		text = ""
	}
	topic := diskTopic(err, text)
	if topic == "" {
		return err
	}
	if topic == hosthelp.Disk && b.inodesUsedUp() {
		topic = hosthelp.Inodes
	}
	// The host is to blame, not the step, the registry or the input.
	var input *InputError
	switch {
	case step != nil:
		op, err = fmt.Sprintf("stage %q, step %d (%s)", step.Stage, step.Step, step.Text), step.Err
	case registry != nil:
		op, err = registry.Op+" "+registry.Image, registry.Err
	case errors.As(err, &input) && input.Subject != "":
		op, err = input.Subject, input.Err
	}
	if place := placeOf(err); place != "" && !b.inStore(place) {
		return elsewhere(op, err, topic, place)
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

// OutputError makes a *HostError of an error in writing to place, which a user
// has named, if its disk is full or broken.
func OutputError(op, place string, err error) error {
	if topic := diskTopic(err, ""); topic != "" {
		return elsewhere(op, err, topic, place)
	}
	return err
}

// diskTopic is the entry about a disk that err is caused by, "" if by none. Text
// is searched for what the system says.
func diskTopic(err error, text string) hosthelp.Topic {
	is := func(number syscall.Errno) bool {
		return errors.Is(err, number) || strings.Contains(text, number.Error())
	}
	switch {
	case is(syscall.ENOSPC), is(syscall.EDQUOT), errors.Is(err, io.ErrShortWrite): // a decompressor's word for them
		return hosthelp.Disk
	case is(syscall.EIO):
		return hosthelp.DiskErrors
	case is(syscall.EROFS):
		return hosthelp.StorePermission
	}
	return ""
}

// placeOf is what the system could not write to: what the user has named, or a
// directory. It is "" if err does not say which: a relative path can be one in any
// root.
func placeOf(err error) string {
	var output *outfile.WriteError
	var path *os.PathError
	var link *os.LinkError
	name := ""
	switch {
	case errors.As(err, &output):
		return output.Name
	case errors.As(err, &path):
		name = path.Path
	case errors.As(err, &link):
		name = link.New
	}
	if !filepath.IsAbs(name) {
		return ""
	}
	dir, _, _ := strings.Cut(filepath.Dir(name), "/"+atomicfile.Prefix)
	return dir
}

// inStore reports whether a path is of the store, its working containers
// included.
func (b *Builder) inStore(path string) bool {
	for _, dir := range []string{b.store.GraphRoot(), b.store.RunRoot()} {
		if rest, ok := strings.CutPrefix(path, dir); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// elsewhere is about a disk that the store may not be on: what helps there does
// not help here.
func elsewhere(op string, err error, topic hosthelp.Topic, place string) *HostError {
	topic = map[hosthelp.Topic]hosthelp.Topic{
		hosthelp.Disk: hosthelp.OtherDisk, hosthelp.Inodes: hosthelp.OtherDisk,
		hosthelp.DiskErrors: hosthelp.OtherDiskErrors, hosthelp.StorePermission: hosthelp.OtherPermission,
	}[topic]
	e := hostError(op, err, topic)
	e.Hint = hosthelp.HereForPlace(topic, place).Hint()
	return e
}

func (b *Builder) inodesUsedUp() bool {
	var st unix.Statfs_t
	return unix.Statfs(b.store.GraphRoot(), &st) == nil && st.Files > 0 && st.Ffree == 0
}
