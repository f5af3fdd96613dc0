package worker

import (
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A session leaves no descriptor open, whether its worker was started or not.
func TestSessionLeavesNothing(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := open()
	for _, started := range []bool{false, true} {
		for range 10 {
			s, err := NewSession(nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if started {
				s.begin()
			}
			s.end()
		}
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

// A signal comes out at the worker's end as its number.
func TestSessionSendsSignals(t *testing.T) {
	signals := make(chan os.Signal, 1)
	s, err := NewSession(nil, nil, signals)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := unix.Dup(int(s.theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	s.begin()
	signals <- syscall.SIGUSR1
	message := make([]byte, 8)
	if n, err := unix.Read(worker, message); err != nil || n != 1 || syscall.Signal(message[0]) != syscall.SIGUSR1 {
		t.Errorf("got %d bytes %v, %v", n, message, err)
	}
	done := make(chan struct{})
	go func() { s.end(); close(done) }()
	_ = unix.Close(worker)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the session does not end with the worker")
	}
}
