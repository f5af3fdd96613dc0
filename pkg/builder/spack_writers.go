package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.podman.io/storage/pkg/stringid"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

// Spack copies a package into the local binary cache under the names that files
// have there at last. Whatever ends it early (kill -9, Ctrl-C, --fail-fast) leaves
// half an archive or half a manifest. Nobody takes those, since their digests do
// not fit, but they stay, and a package that is built again is another archive.
//
// So a spack step holds a file as long as it may write there. One that nobody
// holds says that there may be halves: they are removed as soon as nobody writes.
// Who ends while somebody else writes leaves the file, too: had both built the
// same package, its manifest could be a mixture of theirs.

// writersGate is held while somebody begins to write, and while halves are
// removed.
const writersGate = "gate"

// writePackages says that this build is going to write to the local binary
// cache. End it with done; finished says that nothing was broken off.
func (b *Builder) writePackages(ctx context.Context) (done func(finished bool), err error) {
	dir := b.spackCache("writers")
	leave, err := enterGate(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer leave()
	b.removeHalves(ctx, dir)
	if local, err := b.localBuildcache(ctx); err == nil {
		_ = local.Clean() // through a link, Spack would write to the container's files: what it builds would be lost
	}
	f, err := lockfile.New(filepath.Join(dir, stringid.GenerateRandomID()))
	if err != nil {
		return nil, fmt.Errorf("begin to write to the local binary cache: %w", err)
	}
	return func(finished bool) {
		if finished && alone(dir) {
			_ = os.Remove(f.Name()) // else it says that there may be halves
		}
		_ = f.Close()
		if !finished {
			b.clearPackages(context.WithoutCancel(ctx))
		}
	}, nil
}

// clearPackages removes halves of packages from the local binary cache, if
// somebody may have left any and nobody writes to it now.
func (b *Builder) clearPackages(ctx context.Context) {
	dir := filepath.Join(b.cacheDir, "spack", "writers")
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
	b.removeHalves(ctx, dir)
}

// alone reports whether dir has the file of one writer and nothing else, which is
// cautious: somebody at the gate counts, too.
func alone(dir string) bool {
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

// removeHalves is for who holds the gate. What cannot be removed now is tried
// again by the next one.
func (b *Builder) removeHalves(ctx context.Context, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var gone []string
	lockfile.Abandoned(dir, func(name string) bool { return name != writersGate }, func(name string) { gone = append(gone, name) })
	if len(gone) == 0 || len(gone) < len(entries)-1 {
		return // nobody was killed, or somebody writes
	}
	local, err := b.localBuildcache(ctx)
	if err != nil || local.Clear(ctx) != nil {
		return
	}
	for _, name := range gone {
		_ = os.Remove(filepath.Join(dir, name))
	}
}
