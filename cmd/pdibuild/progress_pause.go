package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// pauses returns a channel that tells of Ctrl-Z (SIGTSTP), and how to end that.
func pauses() (paused <-chan os.Signal, end func()) {
	signals := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(signals, syscall.SIGTSTP)
	}
	return signals, func() { signal.Stop(signals) }
}

// pause takes the live lines off the screen and stops the program, as Ctrl-Z
// would have. What the shell prints meanwhile stays: later lines are drawn
// below it.
func (p *ttyPrinter) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := p.rows
	p.rows = nil
	p.draw("")
	p.rows = rows
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// inBackground reports whether another job has the terminal that standard error
// is: live lines would be drawn over what that shows.
func inBackground() bool {
	group, err := unix.IoctlGetInt(int(os.Stderr.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}
