package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// stoppingText answers the first Ctrl-C.
const stoppingText = "stopping; press Ctrl-C again to exit at once"

// sameSignal is how long a repeated signal counts as the first one: the
// terminal sends Ctrl-C to every process of the group, and the process outside
// of the namespace passes it on once more.
const sameSignal = 300 * time.Millisecond

// An interruptError says that a signal has ended the work.
type interruptError struct{ signal os.Signal }

func (e *interruptError) Error() string {
	switch e.signal {
	case os.Interrupt:
		return "stopped by Ctrl-C (SIGINT)"
	case syscall.SIGHUP:
		return "stopped because the terminal was closed (SIGHUP)"
	case syscall.SIGTERM:
		return "stopped by SIGTERM, which 'kill' and batch systems send"
	}
	return fmt.Sprintf("stopped by a signal (%s)", e.signal)
}

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// cancels, with an *interruptError as its cause. A second one exits at once.
// A signal that is ignored, as under nohup, stays ignored.
func interruptible(parent context.Context, first func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		var since time.Time
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if since.IsZero() {
					since = time.Now()
					cancel(&interruptError{s})
					first()
				} else if time.Since(since) > sameSignal {
					os.Exit(codeInterrupted)
				}
			}
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		<-finished
		cancel(nil)
	})
}

// passedOn returns the signals that a command in a container gets instead of
// this program. Each counts once, although it comes twice when it was sent to
// the whole process group; see sameSignal.
func passedOn() (signals <-chan os.Signal, stop func()) {
	raw, once := make(chan os.Signal, 16), make(chan os.Signal)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH} {
		if !signal.Ignored(s) {
			signal.Notify(raw, s)
		}
	}
	done := make(chan struct{})
	go func() {
		last := map[os.Signal]time.Time{}
		for {
			select {
			case <-done:
				return
			case s := <-raw:
				if s != syscall.SIGWINCH && time.Since(last[s]) < sameSignal {
					continue
				}
				last[s] = time.Now()
				select {
				case once <- s:
				case <-done:
					return
				}
			}
		}
	}()
	return once, func() {
		signal.Stop(raw)
		close(done)
	}
}
