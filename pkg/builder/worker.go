package builder

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

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/ownership"
)

// workerName is the argv[0] by which a copy of the program knows that it is
// to run one command of one step.
const workerName = "pdibuild-step"

// A workerRequest is everything that a worker needs to know. It travels
// in a file that is in memory only, so secrets in it never reach a disk, an argv or an
// environment block.
type workerRequest struct {
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
	Terminal *terminalSize
	// Control says that descriptor 5 is a socket: signals for the command
	// come through it, and its terminal goes the other way.
	Control bool
	// HostNames shows the command the host's own name, and not the one that
	// is the same everywhere.
	HostNames bool
	// SingleID says that there is no other user than root.
	SingleID     bool
	NoNetwork    bool
	Mounts       []workerMount
	Secrets      []workerSecret
	Capabilities []string

	// user is what UID and its groups were made of, publicEnv is Env without
	// secrets and without what only this host has.
	user      string
	publicEnv []string
}

type workerMount struct {
	// Type is bind or tmpfs.
	Type, Source, Target string
	// Within is a directory that Source is a path in: symbolic links do not
	// lead out of it, whatever happens meanwhile. Empty means that Source is
	// a path of the host.
	Within string
	Write  bool
	Size   string
	// IDMap shows what belongs to root as the command's user's, and lets it
	// belong to root what the command writes.
	IDMap bool

	// layer is that of the stage that Within is.
	layer string
}

type workerSecret struct {
	Target, Env string
	Value       []byte
}

// A workerResult is the worker's answer, on file descriptor 3.
type workerResult struct {
	ExitCode int
	// Err says what went wrong before or after the command; then ExitCode
	// means nothing, unless it says that the command was not started.
	Err string
}

// The exit codes by which shells, podman and docker say that a command could
// not be started.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// A CommandError says that a command could not be started: the root file
// system does not have it, or it is no program of this machine.
type CommandError struct {
	// ExitCode is 127 when there is no such command, else 126.
	ExitCode int
	Err      error
}

func (e *CommandError) Error() string { return e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// errNoPIDNamespace says that this sandbox does not let us mount /proc.
var errNoPIDNamespace = errors.New("no process namespace")

// A workerRun collects what surrounds one request.
type workerRun struct {
	stdin          *os.File // nil is empty
	stdout, stderr io.Writer
	// session connects the command with a person; may be nil.
	session *session
	// supervise emulates ownership for a single-id host.
	supervise bool
}

// A workerReport is what the parent learns beside the result.
type workerReport struct {
	exitCode int
	// owners of files that cannot carry an extended attribute.
	owners []ownership.Entry
	// refused are changes of user that a single-id host cannot do.
	refused []string
}

// runWorker runs the request in a new process and waits for it. When ctx
// ends, the process and everything that it has started are killed; being the
// first process of its namespaces, it takes its mounts with it.
func runWorker(ctx context.Context, req *workerRequest, run workerRun) (workerReport, error) {
	request, err := requestFile(req)
	if err != nil {
		return workerReport{}, fmt.Errorf("describe the step: %w", err)
	}
	defer request.Close()
	results, resultWrite, err := os.Pipe()
	if err != nil {
		return workerReport{}, fmt.Errorf("start the step: %w", err)
	}
	defer results.Close()
	defer resultWrite.Close()
	cmd := workerCommand(ctx, req)
	cmd.Stdout, cmd.Stderr = run.stdout, run.stderr
	if run.stdin != nil {
		cmd.Stdin = run.stdin
	}
	cmd.ExtraFiles = []*os.File{resultWrite, request}
	if run.session != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, run.session.theirs)
		defer run.session.end()
	}
	var sup *ownership.Supervisor
	if run.supervise {
		if sup, err = ownership.Start(ownership.Options{}); err != nil {
			return workerReport{}, hostError("emulate file ownership", err, hosthelp.Seccomp)
		}
		defer func() { _ = sup.Close() }() // the worker is gone; there is nothing left to say
		if err := sup.Prepare(cmd); err != nil {
			return workerReport{}, fmt.Errorf("emulate file ownership: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return workerReport{}, fmt.Errorf("start the step: %w", err)
	}
	_ = resultWrite.Close()
	if run.session != nil {
		run.session.begin()
	}
	return waitWorker(ctx, cmd, results, sup)
}

// requestFile is a file in memory, without a name, that holds the request. It
// is no JSON, because arguments and names of files need not be UTF-8.
func requestFile(req *workerRequest) (*os.File, error) {
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

func readRequest(r io.Reader) (*workerRequest, error) {
	req := &workerRequest{}
	if err := gob.NewDecoder(r).Decode(req); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return req, nil
}

func workerCommand(ctx context.Context, req *workerRequest) *exec.Cmd {
	cmd := exec.CommandContext(ctx, reexec.Self())
	cmd.Args = []string{workerName}
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

func waitWorker(ctx context.Context, cmd *exec.Cmd, results io.Reader, sup *ownership.Supervisor) (workerReport, error) {
	var res workerResult
	decodeErr := json.NewDecoder(results).Decode(&res)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return workerReport{}, context.Cause(ctx)
	}
	if decodeErr != nil {
		return workerReport{}, fmt.Errorf("the step's process ended without an answer: %w", errors.Join(waitErr, killedByMemory(waitErr)))
	}
	report := workerReport{exitCode: res.ExitCode}
	if sup != nil {
		report.owners, report.refused = sup.Others(), sup.Refused()
	}
	if res.Err == errNoPIDNamespace.Error() {
		return report, errNoPIDNamespace
	}
	if res.Err != "" && res.ExitCode != 0 {
		return report, &CommandError{ExitCode: res.ExitCode, Err: errors.New(res.Err)}
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
