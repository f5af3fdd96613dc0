// Package cache remembers what has been done already.
//
// Steps is the index of finished build steps: OpenSteps opens it, Get answers
// whether a step's result is known, Put records one. It holds records, not
// the results themselves: those are layers in the image store, and whoever
// gets a record has to check that its layer is still there.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Steps is an index of finished steps in a directory: one small JSON file per
// key, replaced atomically. It is safe for any number of processes and
// goroutines, also on file systems without working locks: a lost update costs
// one step that is run again, never a wrong result.
type Steps struct {
	dir string
}

// A Record says what a finished step left behind.
type Record struct {
	// Layer is the store's id of the top layer after the step. Empty means
	// that there is no layer yet (scratch).
	Layer string `json:"layer"`
	// DiffID of Layer, sha256:HEX of its uncompressed tar stream. A layer
	// with another digest is not the one that was recorded.
	DiffID string `json:"diff_id,omitempty"`
	// Added is set when the step added Layer, and not when it changed
	// nothing and Layer is the one it started from.
	Added bool `json:"added,omitempty"`
	// Below are the layers that the step added under Layer, the lowest first.
	Below []Layer `json:"below,omitempty"`
	// Note is the history entry of Layer where it says more than the step does.
	Note string `json:"note,omitempty"`
	// Data is what a step has found out for the steps that build on it, in a
	// form of their own.
	Data json.RawMessage `json:"data,omitempty"`
	// Image is set for base images: the OCI image configuration.
	Image json.RawMessage `json:"image,omitempty"`
	// ImageID is set for whole images: the id in the store.
	ImageID string `json:"image_id,omitempty"`
	// Took is how long the step ran, in nanoseconds.
	Took time.Duration `json:"took_ns,omitempty"`
}

// A Layer is one of several layers that a step has added; see Record.
type Layer struct {
	// ID is the store's, DiffID sha256:HEX of the uncompressed tar stream.
	ID     string `json:"id"`
	DiffID string `json:"diff_id"`
	// Note is the layer's history entry.
	Note string `json:"note,omitempty"`
}

// OpenSteps opens the index in dir, which is created when it is missing.
func OpenSteps(dir string) (*Steps, error) {
	if err := os.MkdirAll(filepath.Join(dir, "locks"), 0o700); err != nil {
		return nil, fmt.Errorf("open step cache: %w", err)
	}
	return &Steps{dir: dir}, nil
}

// Get returns the record under key. A record that is missing, truncated or
// damaged is not found; it is never an error.
func (s *Steps) Get(key string) (Record, bool) {
	data, err := os.ReadFile(s.path(key))
	if err != nil {
		return Record{}, false
	}
	var rec Record
	if err := json.Unmarshal(data, &rec); err != nil {
		return Record{}, false
	}
	return rec, true
}

// Put records rec under key, replacing what was there. The record is on disk
// when Put returns.
func (s *Steps) Put(key string, rec Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	path := s.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	if err := writeFileAtomic(path, data); err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	return nil
}

// Delete forgets key; forgetting an unknown key is no error.
func (s *Steps) Delete(key string) error {
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget step %s: %w", key, err)
	}
	return nil
}

// Lock waits until no other process or goroutine holds key, so that two
// builds do not run the same step side by side, and returns the function that
// lets go. It gives up when ctx ends. The lock goes with the process, however
// it ends.
func (s *Steps) Lock(ctx context.Context, key string) (unlock func(), err error) {
	path := filepath.Join(s.dir, "locks", key)
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock step %s: %w", key, err)
		}
		if err := flock(ctx, f); err != nil {
			return nil, errors.Join(fmt.Errorf("lock step %s: %w", key, err), f.Close())
		}
		if sameFile(f, path) {
			return func() {
				_ = os.Remove(path)
				_ = f.Close()
			}, nil
		}
		// The previous holder removed the file while we waited for it.
		_ = f.Close()
	}
}

func (s *Steps) path(key string) string {
	if len(key) < 3 {
		return filepath.Join(s.dir, "_", key+".json")
	}
	return filepath.Join(s.dir, key[:2], key+".json")
}

// flock polls, because a blocking flock(2) cannot be interrupted by ctx.
func flock(ctx context.Context, f *os.File) error {
	wait := 2 * time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOTSUP) {
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

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// writeFileAtomic leaves either the old or the new content at path, whatever
// happens.
func writeFileAtomic(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err = f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
