package main

import (
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/progress"
)

// A livePrinter is a printer on a terminal that Ctrl-Z (SIGTSTP) pauses.
type livePrinter struct {
	*progress.Terminal
	end func()
}

func newLivePrinter(w io.Writer, opt progress.TerminalOptions) *livePrinter {
	p := &livePrinter{progress.NewTerminal(w, opt), func() {}}
	if signal.Ignored(syscall.SIGTSTP) {
		return p
	}
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGTSTP)
	p.end = sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
	})
	go func() {
		for {
			select {
			case <-signals:
				p.Pause(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
			case <-done:
				return
			}
		}
	}()
	return p
}

// Close removes the live lines. It may be called twice.
func (p *livePrinter) Close() {
	p.end()
	p.Terminal.Close()
}

// inBackground reports whether another job has the terminal that standard error
// is.
func inBackground() bool {
	group, err := unix.IoctlGetInt(int(os.Stderr.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}
