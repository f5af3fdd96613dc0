package builder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/imagestore"
)

// A usedCache is a cache mount of a command that has secrets.
type usedCache struct {
	dir, target string
	// since is when the command began, by the clock of the cache's file system.
	since unix.Timespec
}

// searchCaches searches what has changed in the cache mounts of a command that
// had secrets, whether it has succeeded or not: later steps, which need not have
// the secret, find what is there. What holds a value is removed; the first one is
// returned as a *LeakError. A file that another step removes at the same moment
// is left out.
func (x *stepRun) searchCaches(req *stepRequest) error {
	var first *LeakError
	for _, c := range req.caches {
		top, err := os.OpenRoot(c.dir)
		if err != nil {
			return fmt.Errorf("search the cache mount at %s for secrets: %w", c.target, err)
		}
		s := &cacheSearch{usedCache: c, in: &inspector{scanner: x.run.secrets.Scanner()}}
		err = errors.Join(s.directory(top, "/"), top.Close())
		if err != nil {
			return fmt.Errorf("search the cache mount at %s for secrets: %w", c.target, err)
		}
		if first == nil {
			first = s.first
		}
	}
	if first == nil {
		return nil
	}
	return first
}

type cacheSearch struct {
	usedCache
	in    *inspector
	first *LeakError
}

func (s *cacheSearch) directory(d *os.Root, name string) error {
	f, err := d.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.restlessEntry(d, e.Name(), path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// searchTries is how often a file is searched that another step puts in the
// place of another one at the same moment, so that it is a link when it is
// opened and a directory when its target is read.
const searchTries = 50

// restlessEntry searches a file, and what is below it if it is a directory. An
// error of a disk is not repeated, nor is one from further down.
func (s *cacheSearch) restlessEntry(d *os.Root, base, name string) error {
	var below *os.Root
	var err error
	for range searchTries {
		if below, err = s.entry(d, base, name); err == nil || errors.Is(err, fs.ErrNotExist) || imagestore.IsDiskError(err) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || below == nil {
		return err
	}
	defer below.Close()
	return s.directory(below, name)
}

// entry searches a file and returns the root below it if it is a directory. One
// with a secret is removed.
func (s *cacheSearch) entry(d *os.Root, base, name string) (*os.Root, error) {
	info, err := d.Lstat(base)
	if err != nil {
		return nil, err
	}
	err = s.file(d, base, name, info)
	var leak *LeakError
	if errors.As(err, &leak) {
		leak.Where = fmt.Sprintf("%s of the cache mount at %s; it was removed there", leak.Where, s.target)
		if s.first == nil {
			s.first = leak
		}
		return nil, d.RemoveAll(base)
	}
	if err != nil || !info.IsDir() {
		return nil, err
	}
	return d.OpenRoot(base)
}

// file searches one file if it has changed, and of a directory its name.
func (s *cacheSearch) file(d *os.Root, base, name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && (st.Ctim.Sec < s.since.Sec || st.Ctim.Sec == s.since.Sec && st.Ctim.Nsec < s.since.Nsec) {
		return nil
	}
	s.in.name = name
	texts := []string{name}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := d.Readlink(base)
		if err != nil {
			return err
		}
		texts = append(texts, target)
	}
	for _, text := range texts {
		s.in.scanner.Reset()
		if _, err := s.in.Write([]byte(text)); err != nil {
			return err
		}
	}
	s.in.scanner.Reset()
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := d.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !now.Mode().IsRegular() {
		return err // another step has put something else there
	}
	return copyData(s.in, f)
}

// copyData copies what is in a file, without its holes.
func copyData(w io.Writer, f *os.File) error {
	for end := int64(0); ; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err == nil {
			end, err = f.Seek(start, unix.SEEK_HOLE)
		}
		if err != nil { // a file system that knows no holes
			_, err = io.Copy(w, io.NewSectionReader(f, 0, 1<<62))
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(f, start, end-start)); err != nil {
			return err
		}
	}
}
