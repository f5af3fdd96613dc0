// Package cache remembers what has been done already.
//
// Steps is the index of finished build steps: OpenSteps opens it, Get answers
// whether a step's result is known, Put records one. It holds records, not
// the results themselves: those are layers in the image store, and whoever
// gets a record has to check that its layer is still there.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/lockfile"
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
	// Text is the step in one line, for people.
	Text string `json:"text,omitempty"`
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
	for _, name := range []string{"locks", "new"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("open step cache: %w", err)
		}
	}
	return &Steps{dir: dir}, nil
}

// ErrUnknown says that there is no record.
var ErrUnknown = errors.New("no such step is recorded")

// A DamagedError says that a record was cut short or changed. It is gone.
type DamagedError struct {
	Key string
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the record of step %.12s is damaged: %v", e.Key, e.Err)
}
func (e *DamagedError) Unwrap() error { return e.Err }

// Get returns the record under key and marks it as used now. The error is
// ErrUnknown, or a *DamagedError once: then the record is removed.
func (s *Steps) Get(key string) (Record, error) {
	// First the mark, then the look: see Discard.
	if err := Touch(s.path(key)); errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrUnknown
	}
	data, err := os.ReadFile(s.path(key))
	if err != nil {
		return Record{}, ErrUnknown
	}
	rec, err := decodeRecord(data)
	if err != nil {
		return Record{}, errors.Join(&DamagedError{key, err}, s.Delete(key))
	}
	return rec, nil
}

// seal precedes the digest of what is above it, on the last line of a record.
const seal = "\nsha256:"

func encodeRecord(rec Record) ([]byte, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(data, "%s%x\n", seal, sha256.Sum256(data)), nil
}

// decodeRecord also reads records of versions that did not seal them.
func decodeRecord(data []byte) (rec Record, err error) {
	text, sum, sealed := strings.Cut(string(data), seal)
	if sealed && fmt.Sprintf("%x\n", sha256.Sum256([]byte(text))) != sum {
		return Record{}, errors.New("its content has another digest")
	}
	return rec, json.Unmarshal([]byte(text), &rec)
}

// Touch gives a file the present time of the file system that it is on: hosts
// that share it may have other clocks.
func Touch(path string) error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, now, 0)
}

func readRecord(path string) (Record, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, false
	}
	rec, err := decodeRecord(data)
	return rec, err == nil
}

// Put records rec under key, replacing what was there. The record is on disk
// when Put returns.
func (s *Steps) Put(key string, rec Record) error {
	data, err := encodeRecord(rec)
	if err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	path := s.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	if err := atomicfile.WriteIn(filepath.Join(s.dir, "new"), path, data, 0o600); err != nil {
		return fmt.Errorf("record step %s: %w", key, err)
	}
	return nil
}

// A Finished is a record with its key and when it was last used.
type Finished struct {
	Key     string
	Record  Record
	LastUse time.Time
	// Damage says why the record cannot be read.
	Damage error
}

// All returns all records, without marking them as used.
func (s *Steps) All() ([]Finished, error) {
	var all []Finished
	for _, file := range s.files("*") {
		key, ok := strings.CutSuffix(filepath.Base(file), ".json")
		info, err := os.Stat(file)
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue // a lock, or another process has just removed it
		}
		f := Finished{Key: key, LastUse: info.ModTime()}
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			f.Record, err = decodeRecord(data)
		}
		f.Damage = err
		all = append(all, f)
	}
	return all, nil
}

// files are those of all records that match.
func (s *Steps) files(pattern string) []string {
	var files []string
	for _, dir := range names(s.dir, "*") {
		files = append(files, names(dir, pattern)...)
	}
	return files
}

// aside ends the names of records that are about to go.
const aside = ".discarded"

// Discard forgets key unless it was used at or after the time since, and says
// whether it did. Somebody may use the record at this very moment: Get marks it
// first and reads it then, so either the mark is seen here, or the record is
// no longer found there. Only then may its layer be removed.
func (s *Steps) Discard(key string, since time.Time) (bool, error) {
	path := s.path(key)
	away := path + aside
	if err := os.Rename(path, away); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("forget step %s: %w", key, err)
	}
	// Opening it makes NFS ask the server for the time.
	f, err := os.Open(away)
	if err != nil {
		return false, fmt.Errorf("forget step %s: %w", key, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.ModTime().Before(since) {
		// Link does not replace what a build may have recorded meanwhile.
		if err := os.Link(away, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return false, fmt.Errorf("forget step %s: %w", key, err)
		}
		return false, os.Remove(away)
	}
	if err = errors.Join(err, os.Remove(away)); err != nil {
		return false, fmt.Errorf("forget step %s: %w", key, err)
	}
	return true, nil
}

// Clean removes records that a killed process had set aside. Nobody else may
// use the index meanwhile.
func (s *Steps) Clean() (err error) {
	for _, file := range s.files("*" + aside) {
		err = errors.Join(err, os.Remove(file))
	}
	return err
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
	f, err := lockfile.Lock(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("lock step %s: %w", key, err)
	}
	// Who held it has recorded the step, perhaps as the first one in there.
	seeOthers(s.dir)
	seeOthers(filepath.Dir(s.path(key)))
	return func() {
		_ = os.Remove(path)
		_ = f.Close()
	}, nil
}

// Clear removes what processes that were killed have left behind.
func (s *Steps) Clear() {
	for _, name := range []string{"locks", "new"} {
		removeAbandoned(filepath.Join(s.dir, name))
	}
}

// removeAbandoned removes the files of dir that nobody holds.
func removeAbandoned(dir string) {
	lockfile.Abandoned(dir, nil, func(name string) { _ = os.Remove(filepath.Join(dir, name)) })
}

// Layers returns the ids of all layers that records name. It reads them all.
func (s *Steps) Layers() map[string]bool { return s.LayersSince(time.Time{}) }

// LayersSince is Layers of the records that were made or used at or after a time.
func (s *Steps) LayersSince(since time.Time) map[string]bool {
	ids := map[string]bool{}
	for _, path := range s.files("*.json") {
		if info, err := os.Stat(path); err != nil || info.ModTime().Before(since) {
			continue
		}
		rec, ok := readRecord(path)
		if !ok {
			continue
		}
		ids[rec.Layer] = true
		for _, l := range rec.Below {
			ids[l.ID] = true
		}
	}
	return ids
}

func (s *Steps) path(key string) string {
	if len(key) < 3 {
		return filepath.Join(s.dir, "_", key+".json")
	}
	return filepath.Join(s.dir, key[:2], key+".json")
}
