// Package lockfile has files that a process holds for as long as it lives, and
// finds those whose holder was killed. A file that nobody holds says that what
// it stands for is abandoned.
//
// New, Lock and Try take a file, Abandoned finds those that nobody has. Holders
// remove their file before they close it. Where the file system has no locks
// nothing ever counts as abandoned.
package lockfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another process or goroutine holds the file.
var ErrHeld = errors.New("somebody else uses it now")

// New makes a file of a name that nobody else has, and holds it until it is
// closed.
func New(path string) (*os.File, error) { return NewMode(path, 0o600) }

// NewMode is New with the permissions of the file, which the umask limits.
func NewMode(path string, perm os.FileMode) (*os.File, error) {
	for {
		// Who looks for abandoned files can be in the way, for a moment.
		f, err := try(path, perm)
		if !errors.Is(err, ErrHeld) {
			return f, err
		}
		time.Sleep(time.Millisecond)
	}
}

// Hold holds a file that is open, until it is closed, or returns ErrHeld. Where
// the file system has no locks it does nothing.
func Hold(f *os.File) error {
	if err := lock(f); err != nil && !lockless(err) {
		return err
	}
	return nil
}

// Lock waits until nobody holds the file at path, makes it if it is missing,
// and holds it until it is closed. It gives up when ctx ends.
func Lock(ctx context.Context, path string) (f *os.File, err error) {
	err = untilFree(ctx, func() error {
		f, err = Try(path)
		return err
	})
	return f, err
}

// Wait is Hold, but waits until nobody else holds the file, or ctx ends.
func Wait(ctx context.Context, f *os.File) error {
	return untilFree(ctx, func() error { return Hold(f) })
}

// untilFree polls, because a blocking flock(2) cannot be interrupted.
func untilFree(ctx context.Context, try func() error) error {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		if err := try(); !errors.Is(err, ErrHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Try is Lock without waiting: it returns ErrHeld.
func Try(path string) (*os.File, error) { return try(path, 0o600) }

func try(path string, perm os.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, perm)
		if err != nil {
			return nil, err
		}
		if err := Hold(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if isAt(f, path) {
			return f, nil
		}
		// It was removed between being opened and being locked.
		_ = f.Close()
	}
}

// Abandoned calls do with the name of each file in dir that matches and that
// nobody holds, and holds the file meanwhile. All names match a nil function.
func Abandoned(dir string, match func(name string) bool, do func(name string)) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // no directory, nothing abandoned
	}
	for _, e := range entries {
		if e.Type().IsRegular() && (match == nil || match(e.Name())) {
			ifAbandoned(filepath.Join(dir, e.Name()), func() { do(e.Name()) })
		}
	}
}

func ifAbandoned(path string, do func()) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if lock(f) == nil && isAt(f, path) {
		do()
	}
}

func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrHeld
		}
		return err
	}
}

// lockless reports whether the file system has no locks.
func lockless(err error) bool { return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOTSUP) }

// isAt reports whether f is still what path names. It opens path, for which NFS
// asks the server: what Stat says may be a few seconds old there.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	g, err := os.Open(path)
	if err != nil {
		return false
	}
	defer g.Close()
	b, err := g.Stat()
	return err == nil && os.SameFile(a, b)
}
