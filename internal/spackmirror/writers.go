package spackmirror

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

// Spack copies a package into the local binary cache under the final names of its
// files. Whatever ends Spack early (kill -9, Ctrl-C, --fail-fast) leaves a partial
// archive or manifest. No build uses these, since their digests do not fit, but
// they stay, and a package that is built again is another archive.
//
// So a spack step locks a marker file for as long as it may write there. A marker
// without a lock means that there may be partial files: they are removed as soon
// as no other process writes. A writer that exits while another is active keeps
// its marker: both may have written the same manifest.

// writersGate is locked while a writer begins, and while partial files are
// removed.
const writersGate = "gate"

// BeginWrite is called before this build writes to the local binary cache. Done
// ends that; its argument is whether the writer came to its end.
func (s *Store) BeginWrite(ctx context.Context) (done func(finished bool), err error) {
	dir := s.Path("writers")
	leave, err := enterGate(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer leave()
	s.removePartial(ctx, dir)
	if local, err := s.OpenCache(ctx); err == nil {
		_ = local.Clean() // through a link, Spack would write to the container's files, and lose what it builds
	}
	f, err := lockfile.New(filepath.Join(dir, rand.Text()))
	if err != nil {
		return nil, fmt.Errorf("begin to write to the local binary cache: %w", err)
	}
	return func(finished bool) {
		if finished && onlyWriter(dir) {
			_ = os.Remove(f.Name()) // else it marks that there may be partial files
		}
		_ = f.Close()
		if !finished {
			s.RemovePartialFiles(context.WithoutCancel(ctx))
		}
	}, nil
}

// RemovePartialFiles removes partial files of packages from the local binary
// cache, if a marker of a killed writer exists and no process writes now.
func (s *Store) RemovePartialFiles(ctx context.Context) {
	dir := filepath.Join(s.Dir, "writers")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	leave, err := enterGate(ctx, dir)
	if err != nil {
		return // the next build tries again
	}
	defer leave()
	s.removePartial(ctx, dir)
}

// onlyWriter reports whether dir has the marker of one writer and nothing else.
// That is cautious: a process at the gate counts as a writer.
func onlyWriter(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 1
}

func enterGate(ctx context.Context, dir string) (leave func(), err error) {
	gate, err := lockfile.Lock(ctx, filepath.Join(dir, writersGate))
	if err != nil {
		return nil, fmt.Errorf("wait for others to begin to write to the local binary cache: %w", err)
	}
	return func() {
		_ = os.Remove(gate.Name()) // it is empty, and made again
		_ = gate.Close()
	}, nil
}

// removePartial is called with the gate locked. The next call tries again to
// remove what cannot be removed now.
func (s *Store) removePartial(ctx context.Context, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var abandoned []string
	lockfile.Abandoned(dir, func(name string) bool { return name != writersGate }, func(name string) { abandoned = append(abandoned, name) })
	if len(abandoned) == 0 || len(abandoned) < len(entries)-1 {
		return // no writer was killed, or one is active
	}
	local, err := s.OpenCache(ctx)
	if err != nil || local.Clear(ctx) != nil {
		return
	}
	for _, name := range abandoned {
		_ = os.Remove(filepath.Join(dir, name))
	}
}
