package worker

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"go.podman.io/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// Name is the argv[0] by which a copy of the program knows that it is a worker
// and has to call [Main].
const Name = "pdibuild-step"

// A Request is everything that a worker needs to know. It travels in a file
// that is in memory only, so secrets in it never reach a disk, an argv or an
// environment block.
type Request struct {
	// Root is the mounted root file system; empty runs a program of the host
	// (a bootstrap tool).
	Root string
	// Scratch is an empty directory that becomes a private tmpfs.
	Scratch string
	// Runtime is the path of an OCI runtime; empty means without one.
	Runtime string
	// PIDNamespace says that the worker is process 1 of its own namespace.
	PIDNamespace bool

	Args, Env []string
	Cwd       string
	UID, GID  uint32
	Groups    []uint32
	// MapUser runs the command in a user namespace in which the user that we
	// are, root, shows up as UID.
	MapUser bool
	// Terminal gives the command a terminal of this size.
	Terminal *TerminalSize
	// Control says that descriptor 5 is a socket: signals for the command
	// come through it, and its terminal goes the other way.
	Control bool
	// HostNames shows the command the host's own name, and not the one that
	// is the same everywhere.
	HostNames bool
	// SingleID says that there is no other user than root.
	SingleID     bool
	NoNetwork    bool
	Mounts       []Mount
	Secrets      []Secret
	Capabilities []string
}

// A Mount shows a file or a directory, or an empty tmpfs, in the root.
type Mount struct {
	// Type is bind or tmpfs.
	Type, Source, Target string
	// Within is a directory that Source is a path in: symbolic links do not
	// lead out of it, whatever happens meanwhile. Empty means that Source is
	// a path of the host.
	Within string
	Write  bool
	// Spare is an empty directory of a disk. If it is given, the command sees a
	// copy of Source which it can write to, and what it writes is there.
	Spare string
	Size  string
	// IDMap shows what belongs to root as the command's user's, and lets it
	// belong to root what the command writes.
	IDMap bool
}

// A Secret is a file that only the command sees.
type Secret struct {
	Target string
	Value  []byte
}

// A result is the worker's answer, on file descriptor 3.
type result struct {
	ExitCode int
	// Err says what went wrong before or after the command; then ExitCode
	// means nothing, unless it says that the command was not started.
	Err string
	// MountPoint says that Err is a MountPointError's.
	MountPoint bool
}

// The exit codes by which shells, podman and docker say that a command could
// not be started.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// A StartError says that a command could not be started: the root file
// system does not have it, or it is no program of this machine.
type StartError struct {
	// ExitCode is 127 when there is no such command, else 126.
	ExitCode int
	Err      error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// A MountPointError says that the root file system, or what is mounted there, has
// no place for a mount that the request asks for.
type MountPointError struct{ Err error }

func (e *MountPointError) Error() string { return e.Err.Error() }
func (e *MountPointError) Unwrap() error { return e.Err }

// ErrNoPIDNamespace says that this sandbox does not let us mount /proc.
var ErrNoPIDNamespace = errors.New("no process namespace")

// An OwnershipError says that this host cannot emulate file ownership.
type OwnershipError struct{ Err error }

func (e *OwnershipError) Error() string { return "emulate file ownership: " + e.Err.Error() }
func (e *OwnershipError) Unwrap() error { return e.Err }

// Options are what surrounds one request: what a command is run with, and
// not what it is.
type Options struct {
	Stdin          *os.File // nil is empty
	Stdout, Stderr io.Writer
	// Session connects the command with a person; may be nil.
	Session *Session
	// Supervise emulates ownership for a single-id host.
	Supervise bool
	// Files are those of Request.Root, or where a program of the host makes a
	// root; Report.Owners names files in it. Owners are those that are known
	// already. Both are for Supervise.
	Files  *rootfs.Root
	Owners []ownership.Entry
}

// A Report is what is known of a command that has ended.
type Report struct {
	ExitCode int
	// Owners of files that cannot carry an extended attribute: Options.Owners
	// as they are now, and those of the command.
	Owners []ownership.Entry
	// Refused are changes of user that a single-id host cannot do.
	Refused []string
}

// Run runs the request in a new process and waits for it. When ctx ends, the
// process and everything that it has started are killed; being the first
// process of its namespaces, it takes its mounts with it.
//
// A [*StartError] says that there is no such command, a [*MountPointError] that
// there is no place for a mount, an [*OwnershipError] that Options.Supervise asks
// too much of this host.
func Run(ctx context.Context, req *Request, opt Options) (Report, error) {
	request, err := requestFile(req)
	if err != nil {
		return Report{}, fmt.Errorf("describe the step: %w", err)
	}
	defer request.Close()
	results, resultWrite, err := os.Pipe()
	if err != nil {
		return Report{}, fmt.Errorf("start the step: %w", err)
	}
	defer results.Close()
	defer resultWrite.Close()
	cmd := newCommand(ctx, req)
	cmd.Stdout, cmd.Stderr = opt.Stdout, opt.Stderr
	if opt.Stdin != nil {
		cmd.Stdin = opt.Stdin
	}
	cmd.ExtraFiles = []*os.File{resultWrite, request}
	if opt.Session != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, opt.Session.theirs)
		defer opt.Session.end()
	}
	var sup *ownership.Supervisor
	if opt.Supervise {
		owners := ownership.Options{Root: opt.Files, Known: opt.Owners}
		if req.Root != "" {
			owners.Groups = append([]uint32{}, req.Groups...) // not nil
		}
		if sup, err = ownership.Start(owners); err != nil {
			return Report{}, &OwnershipError{err}
		}
		defer func() { _ = sup.Close() }() // the worker is gone; there is nothing left to say
		if err := sup.Prepare(cmd); err != nil {
			return Report{}, fmt.Errorf("emulate file ownership: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return Report{}, fmt.Errorf("start the step: %w", err)
	}
	_ = resultWrite.Close()
	if opt.Session != nil {
		opt.Session.begin()
	}
	return wait(ctx, cmd, results, sup)
}

// requestFile is a file in memory, without a name, that holds the request. It
// is no JSON, because arguments and names of files need not be UTF-8.
func requestFile(req *Request) (*os.File, error) {
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(req); err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("pdibuild-request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "request")
	if _, err = f.Write(data.Bytes()); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func readRequest(r io.Reader) (*Request, error) {
	req := &Request{}
	if err := gob.NewDecoder(r).Decode(req); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return req, nil
}

func newCommand(ctx context.Context, req *Request) *exec.Cmd {
	cmd := exec.CommandContext(ctx, reexec.Self())
	cmd.Args = []string{Name}
	// The worker needs no environment; a step's own comes with the request.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} //nolint:forbidigo // finds helper programs, configures nothing
	flags := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS)
	if req.PIDNamespace {
		flags |= syscall.CLONE_NEWPID
	}
	if req.NoNetwork {
		flags |= syscall.CLONE_NEWNET
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL, Setsid: true}
	cmd.Cancel = func() error { return killTree(cmd.Process.Pid) }
	cmd.WaitDelay = time.Second
	return cmd
}

func wait(ctx context.Context, cmd *exec.Cmd, results io.Reader, sup *ownership.Supervisor) (Report, error) {
	var res result
	decodeErr := json.NewDecoder(results).Decode(&res)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	if decodeErr != nil {
		return Report{}, fmt.Errorf("the step's process ended without an answer: %w", errors.Join(waitErr, killedByMemory(waitErr)))
	}
	report := Report{ExitCode: res.ExitCode}
	if sup != nil {
		report.Owners, report.Refused = sup.Others(), sup.Refused()
	}
	if res.Err == ErrNoPIDNamespace.Error() {
		return report, ErrNoPIDNamespace
	}
	if res.MountPoint {
		return report, &MountPointError{errors.New(res.Err)}
	}
	if res.Err != "" && res.ExitCode != 0 {
		return report, &StartError{ExitCode: res.ExitCode, Err: errors.New(res.Err)}
	}
	if res.Err != "" {
		return report, errors.New(res.Err)
	}
	return report, nil
}

func killedByMemory(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signal() == syscall.SIGKILL {
		return errors.New("it was killed, probably for memory")
	}
	return nil
}
