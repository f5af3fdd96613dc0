package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Users knows who uses the caches of a store at this moment, on this host and
// on others that share the directory. Whoever builds calls Enter; whoever
// removes things calls Sweep, and leaves alone what was used since the first of
// the present users came.
//
// The locks are flock(2): the kernel lets go of them when their process ends,
// however it ends. Linux makes them locks of the server on NFS. Where a file
// system has no locks, who came within the last week counts as present.
type Users struct{ dir string }

// presentFor is how long a user counts as present where locks do not tell.
const presentFor = 7 * 24 * time.Hour

// sweepFile is locked by sweeps, and for a moment by those who enter.
const sweepFile = "sweep"

// OpenUsers opens the register in dir, which is created when it is missing.
func OpenUsers(dir string) (*Users, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the register of builds: %w", err)
	}
	return &Users{dir}, nil
}

// Enter registers a user, which waits until no sweep is under way. It ends
// with leave, or with the process.
func (u *Users) Enter(ctx context.Context) (leave func(), err error) {
	u.forgetTheGone()
	gate, err := u.gate(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("register this build: %w", err)
	}
	defer gate.Close()
	f, err := os.CreateTemp(u.dir, "user-*")
	if err != nil {
		return nil, fmt.Errorf("register this build: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil && !lockless(err) {
		return nil, fmt.Errorf("register this build: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return func() {
		_ = os.Remove(f.Name())
		_ = f.Close()
	}, nil
}

// forgetTheGone removes what killed users have left, unless somebody enters or
// sweeps at this moment: then the next one does.
func (u *Users) forgetTheGone() {
	files := names(u.dir, "user-*")
	if len(files) == 0 {
		return
	}
	gate, err := u.openGate()
	if err != nil {
		return
	}
	defer gate.Close()
	if unix.Flock(int(gate.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	for _, file := range files {
		_, _, _ = userPresent(file)
	}
}

// A Sweep is the right to remove what nobody uses. While it lasts, nobody
// enters.
type Sweep struct {
	gate *os.File
	// Others is how many users are present.
	Others int
	// Since is when the first of them came. What was used then or later must
	// stay. Without users it is in the far future.
	Since time.Time
}

// Sweep waits until no other sweep is under way. End it with End.
func (u *Users) Sweep(ctx context.Context) (*Sweep, error) {
	gate, err := u.gate(ctx, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("wait for others to end pruning: %w", err)
	}
	s := &Sweep{gate: gate, Since: time.Unix(1<<40, 0)}
	for _, file := range names(u.dir, "user-*") {
		came, present, err := userPresent(file)
		if err != nil {
			return nil, errors.Join(err, gate.Close())
		}
		if !present {
			continue
		}
		s.Others++
		if came.Before(s.Since) {
			s.Since = came
		}
	}
	return s, nil
}

// End lets others in.
func (s *Sweep) End() { _ = s.gate.Close() }

// userPresent also removes the file of a user who is gone.
func userPresent(file string) (came time.Time, present bool, err error) {
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return came, false, nil
	}
	if err != nil {
		return came, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return came, false, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return info.ModTime(), true, nil
	case lockless(err) && time.Since(info.ModTime()) < presentFor:
		return info.ModTime(), true, nil
	case err != nil && !lockless(err):
		return came, false, err
	}
	return came, false, os.Remove(file)
}

func (u *Users) openGate() (*os.File, error) {
	return os.OpenFile(filepath.Join(u.dir, sweepFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
}

func (u *Users) gate(ctx context.Context, how int) (*os.File, error) {
	f, err := u.openGate()
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockless says that the file system has no locks.
func lockless(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS)
}

// flock polls, because a blocking flock(2) cannot be interrupted by ctx.
func flock(ctx context.Context, f *os.File, how int) error {
	wait := 2 * time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil || lockless(err) {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 250*time.Millisecond)
	}
}
