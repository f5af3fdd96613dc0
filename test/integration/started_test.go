//go:build integration

package integration

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A started build is one that the test does something to while it runs.
type started struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr text
	ended          chan struct{}
}

// text collects output; it may be read while it is written.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// start starts a build and returns once a step has printed the word READY.
func (p *project) start(args ...string) *started {
	p.t.Helper()
	return p.startUntil("| READY\n", p.buildArgs(args...)...)
}

// startUntil starts the program and returns once it has said the words.
func (p *project) startUntil(words string, args ...string) *started {
	p.t.Helper()
	s := &started{t: p.t, cmd: p.command(args...), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // the exit code is in ProcessState
		close(s.ended)
	}()
	p.t.Cleanup(func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	s.waitFor(words)
	return s
}

// waitFor waits until the build has said the words.
func (s *started) waitFor(words string) {
	s.t.Helper()
	for deadline := time.Now().Add(waitLimit); !strings.Contains(s.stderr.String(), words); time.Sleep(10 * time.Millisecond) {
		select {
		case <-s.ended:
			s.t.Fatalf("the build has ended with %d before it said %q\n%s", s.cmd.ProcessState.ExitCode(), words, s.stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the build has not said %q within %v\n%s", words, waitLimit, s.stderr.String())
		}
	}
}

// signal sends a signal to the program alone, as kill does, or to its whole
// process group, as a terminal does.
func (s *started) signal(sig syscall.Signal, group bool) {
	s.t.Helper()
	pid := s.cmd.Process.Pid
	if group {
		pid = -pid
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("send %v: %v", sig, err)
	}
}

// end waits for the end of the program and returns its exit code, or -1 when
// a signal has ended it.
func (s *started) end() int {
	s.t.Helper()
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(waitLimit):
		s.t.Fatalf("the program still runs %v later\n%s", waitLimit, s.stderr.String())
		return 0
	}
}
