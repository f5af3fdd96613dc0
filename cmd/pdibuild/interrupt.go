package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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

func (e *interruptError) Error() string { return fmt.Sprintf("interrupted (%s)", e.signal) }

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
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-finished
		cancel(nil)
	}
}
