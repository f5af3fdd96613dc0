package buildcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// PushOptions say what Push does besides what Copy does.
type PushOptions struct {
	CopyOptions
	// TempDir holds archives on their way, the system's directory for
	// temporary files by default. At most Jobs are there at once.
	TempDir string
}

// Push makes binary packages of installed ones: of the prefixes, which are
// directories with .spack/spec.json in one install tree, or of all that is
// installed in the tree if there are none. Filters choose among them, and
// dependencies come along from the tree if the prefixes do not say exactly what
// is meant.
//
// The packages are the same as those of 'spack buildcache push --unsigned', and
// the same prefix gives the same archive each time. The tree need not be where
// Spack has it: what is in the root of an image is fine.
func (c *Cache) Push(ctx context.Context, installTree string, prefixes []string, opt PushOptions) (result *CopyResult, err error) {
	if installTree == "" {
		if len(prefixes) == 0 {
			return nil, errors.New("push: neither an install tree nor a prefix is named")
		}
		if installTree, err = treeOf(prefixes[0]); err != nil {
			return nil, fmt.Errorf("push: %w", err)
		}
	}
	t, err := openTree(installTree, prefixes)
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	t.temporary = cmp.Or(opt.TempDir, os.TempDir())
	defer t.close()
	src := &Cache{address: filepath.Clean(installTree), reader: t, jobs: c.jobs, report: c.report}
	return Copy(ctx, src, c, opt.CopyOptions)
}
