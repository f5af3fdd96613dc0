package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// knownLock is the lock file to begin with: the one beside the environment, or
// what the same inputs have given before.
func (j *spackJob) knownLock() []byte {
	if j.in.lock != nil {
		return j.in.lock
	}
	data, err := os.ReadFile(j.lockPath())
	if err != nil {
		return nil
	}
	if _, err := spack.ParseLock(j.lockPath(), data); err != nil {
		return nil // it is made again
	}
	markUsed(j.lockPath())
	return data
}

// lockPath is where the result of concretizing is kept: the same inputs give
// the same, and after a failed installation it is not computed again.
func (j *spackJob) lockPath() string { return j.run.b.lockPath(j.planned.Key) }

func (b *Builder) lockPath(key string) string {
	return filepath.Join(b.spackCache("locks"), key+".lock")
}

// writeLock writes the lock file of a finished spack step beside its
// environment. One that is in the recipe has no place for it.
func (b *Builder) writeLock(p *Plan, planned PlannedStep) error {
	step, ok := planned.step.(recipe.Spack)
	if !ok || step.Spack.Environment == "" {
		return nil
	}
	data, err := os.ReadFile(b.lockPath(planned.Key))
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

// lockName is where a lock file belongs, in the context.
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

// concretize works out what exactly will be installed.
func (j *spackJob) concretize(ctx context.Context) error {
	args := []string{"-e", j.dir, "concretize"}
	if j.step.Concretize != "" {
		args = append(args, "--"+j.step.Concretize)
	}
	if err := j.exec(ctx, j.command(args...)); err != nil {
		return j.concretizeError(err)
	}
	var err error
	if j.lockData, err = j.wk.root.ReadFile(path.Join(j.dir, spack.LockFileName)); errors.Is(err, fs.ErrNotExist) {
		return &InputError{Err: errors.New("the environment has no specs: there is nothing to install"), Hint: "add packages to specs: in " + j.step.Environment}
	} else if err != nil {
		return err
	}
	if j.lock, err = spack.ParseLock(path.Join(j.dir, spack.LockFileName), j.lockData); err != nil {
		return err
	}
	if !j.fits(j.in.lock) {
		j.warn("the spack.lock beside the environment does not fit it any more; what it lacked was concretized anew")
	}
	return atomicfile.Write(j.lockPath(), j.lockData, 0o600)
}

// fits says whether the lock file beside the environment, if there is one, has
// what Spack has come to. A newer Spack may write the same in another form.
func (j *spackJob) fits(data []byte) bool {
	if data == nil || bytes.Equal(data, j.lockData) {
		return true
	}
	given, err := spack.ParseLock(spack.LockFileName, data)
	if err != nil {
		return false
	}
	roots := func(l *spack.Lock) []string {
		var hashes []string
		for _, r := range l.Roots {
			hashes = append(hashes, r.Hash)
		}
		slices.Sort(hashes)
		return slices.Compact(hashes)
	}
	return slices.Equal(roots(given), roots(j.lock))
}

// concretizeError says why there is nothing to install, and what to look at.
func (j *spackJob) concretizeError(err error) error {
	var step *StepError
	if !errors.As(err, &step) {
		return err
	}
	why := lastError(step.Tail)
	if why == "" {
		return err
	}
	failed := *step
	failed.Err = errors.New("Spack cannot concretize the environment: " + why)
	if failed.Hint == "" {
		failed.Hint = concretizeHint(why)
	}
	return &failed
}

// lastError is the last error in Spack's output, on one line.
func lastError(lines []string) string {
	var words []string
	for _, line := range lines {
		text, isError := strings.CutPrefix(line, "==> Error: ")
		switch {
		case isError:
			words = []string{strings.TrimSpace(text)}
		case len(words) > 0 && strings.HasPrefix(line, "  "):
			words = append(words, strings.TrimSpace(line))
		}
	}
	const longest = 300
	text := []rune(strings.Join(words, " "))
	if len(text) > longest {
		text = append(text[:longest], '…')
	}
	return string(text)
}

func concretizeHint(why string) string {
	switch {
	case strings.Contains(why, "does not exist"):
		return "look at the package's name; if it is one of your own, its repository has to be in repos:"
	case strings.Contains(why, "cannot load package"):
		return "correct that package.py; 'spack list' in the image, with the repository, loads it without a build"
	case strings.Contains(why, "internal error"):
		return "one of the packages may depend on a package that no repository has: look at depends_on in those of repos:, and at the names in specs:"
	}
	return "loosen a version or variant in specs: or packages:, or name an external package"
}
