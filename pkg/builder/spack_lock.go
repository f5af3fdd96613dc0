package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// writeLock writes the lock file of a finished spack step beside its
// environment. One that is in the recipe has no place for it.
func (b *Builder) writeLock(p *Plan, planned PlannedStep) error {
	step, ok := planned.step.(recipe.Spack)
	if !ok || step.Spack.Environment == "" {
		return nil
	}
	data, err := os.ReadFile(spackinstall.LockPath(b.spackStore(), planned.lockKey))
	if errors.Is(err, fs.ErrNotExist) {
		return &InputError{Subject: "write the lock file", Err: errors.New("what the step has concretized to is no longer kept"), Hint: "build once more without what is kept", Code: fail.LockNotKept}
	}
	if err != nil {
		return err
	}
	name := lockName(step)
	if err := writeInContext(p.Context, name, data); err != nil {
		return OutputError("write the lock file", filepath.Join(p.Context, name), fmt.Errorf("write the lock file: %w", err))
	}
	return nil
}

// lockName is the place of a lock file in the context.
func lockName(step recipe.Spack) string {
	return path.Join(path.Dir(filepath.ToSlash(step.Spack.Environment)), spack.LockFileName)
}

// writeInContext writes a whole file, and only below the context, wherever links
// there lead.
func writeInContext(context, name string, data []byte) error {
	root, err := os.OpenRoot(context)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() || unix.Faccessat(int(dir.Fd()), ".", unix.W_OK, 0) != nil {
		return root.WriteFile(name, data, 0o644)
	}
	return atomicfile.Write(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(name)), data, 0o644)
}

// checkLocks finds out before the build whether its lock files can be written.
func (p *Plan) checkLocks() error {
	for _, stage := range p.Stages {
		for _, planned := range stage.Steps {
			step, ok := planned.step.(recipe.Spack)
			if !ok || step.Spack.Environment == "" {
				continue
			}
			name := filepath.Join(p.Context, lockName(step))
			if unix.Access(filepath.Dir(name), unix.W_OK) != nil && unix.Access(name, unix.W_OK) != nil {
				return &InputError{Subject: "write the lock file", Err: fmt.Errorf("nothing can be written to %s", filepath.Dir(name)), Hint: "do not write it, or build in a copy of the directory", Code: fail.LockNotWritable}
			}
		}
	}
	return nil
}
