package builder

import (
	"context"
	"path/filepath"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// clear removes what builds that were killed have left, but for their layers:
// see works.
func (b *Builder) clear() {
	b.steps.Clear()
	b.spackStore().RemovePartialFiles(context.Background())
	spack := filepath.Join(b.cacheDir, "spack")
	atomicfile.Clear(filepath.Dir(b.cacheDir), filepath.Join(spack, "locks"), filepath.Join(spack, "times"), filepath.Join(spack, "pending"))
	b.store.Mend()
}
