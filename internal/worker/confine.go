package worker

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/seccomp"
)

// A confinement takes from a command what a step does not need, where no OCI
// runtime does it: capabilities, system calls, the user's keys. Threads have
// these one by one, so the command is started from a thread of its own, and
// the worker keeps what it needs to clean up.
type confinement struct {
	capabilities []string
	filter       []unix.SockFilter
	done         chan struct{}
}

func newConfinement(capabilities []string) (*confinement, error) {
	filter, err := seccomp.Program(seccomp.Profile(capabilities))
	if err != nil {
		return nil, fmt.Errorf("make the system call filter: %w", err)
	}
	return &confinement{capabilities: capabilities, filter: filter, done: make(chan struct{})}, nil
}

// start starts cmd. Its thread stays until end, because the kernel sends the
// parent death signal when that thread ends.
func (c *confinement) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to others
		err := c.confine()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		<-c.done
	}()
	return <-started
}

func (c *confinement) end() { close(c.done) }

// confine confines the calling thread.
func (c *confinement) confine() error {
	if err := leaveKeyring(); err != nil {
		return err
	}
	if err := limitCapabilities(c.capabilities); err != nil {
		return err
	}
	// The filter is defence in depth: a sandbox whose kernel has none, such as
	// gVisor, confines by other means.
	if err := seccomp.Install(c.filter); err != nil && !seccomp.Missing(err) {
		return err
	}
	return nil
}

// leaveKeyring takes a new session keyring: what is in the user's, such as a
// Kerberos ticket, is not for steps.
func leaveKeyring() error {
	// A name, also an empty one, would join the keyring of that name.
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno != 0 && errno != unix.ENOSYS && errno != unix.EPERM { // without keyrings there is none to hide
		return fmt.Errorf("take a new session keyring: %w", errno)
	}
	return nil
}

// limitCapabilities removes all but keep from the bounding set of this
// thread, and so from everything that it starts.
func limitCapabilities(keep []string) error {
	kept := map[string]bool{}
	for _, c := range keep {
		kept[c] = true
	}
	for c, name := range capabilityNames() {
		if kept[name] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("give up %s: %w", name, err)
		}
	}
	return nil
}
