package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"go.podman.io/storage/pkg/reexec"

	"github.com/pdidev/pdibuild/internal/ownership"
)

// workerName is the argv[0] by which a copy of the program knows that it is
// to run one command of one step.
const workerName = "pdibuild-step"

// A workerRequest is everything that a worker needs to know. It travels
// through a pipe, so secrets in it never reach a disk, an argv or an
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
	MapUser   bool
	// SingleID says that there is no other user than root.
	SingleID     bool
	NoNetwork    bool
	Mounts       []workerMount
	Secrets      []workerSecret
	Capabilities []string
}

type workerMount struct {
	// Type is bind or tmpfs.
	Type, Source, Target string
	Write                bool
	Size                 string
}

type workerSecret struct {
	Target, Env string
	Value       []byte
}

// A workerResult is the worker's answer, on file descriptor 3.
type workerResult struct {
	ExitCode int
	// Err says what went wrong before or after the command; then ExitCode
	// means nothing.
	Err string
}

// errNoPIDNamespace says that this sandbox does not let us mount /proc.
var errNoPIDNamespace = errors.New("no process namespace")

// A workerRun collects what surrounds one request.
type workerRun struct {
	stdout, stderr io.Writer
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
	data, err := json.Marshal(req)
	if err != nil {
		return workerReport{}, fmt.Errorf("describe the step: %w", err)
	}
	results, resultWrite, err := os.Pipe()
	if err != nil {
		return workerReport{}, fmt.Errorf("start the step: %w", err)
	}
	defer results.Close()
	cmd := workerCommand(ctx, req)
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stdout, cmd.Stderr = run.stdout, run.stderr
	cmd.ExtraFiles = []*os.File{resultWrite}

	var sup *ownership.Supervisor
	if run.supervise {
		if sup, err = ownership.Start(ownership.Options{}); err != nil {
			_ = resultWrite.Close()
			return workerReport{}, &HostError{Op: "emulate file ownership", Err: err, Hint: "ask the administrator for a range in /etc/subuid and /etc/subgid"}
		}
		defer func() { _ = sup.Close() }() // the worker is gone; there is nothing left to say
		if err := sup.Prepare(cmd); err != nil {
			_ = resultWrite.Close()
			return workerReport{}, fmt.Errorf("emulate file ownership: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		_ = resultWrite.Close()
		return workerReport{}, fmt.Errorf("start the step: %w", err)
	}
	_ = resultWrite.Close()
	return waitWorker(ctx, cmd, results, sup)
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
