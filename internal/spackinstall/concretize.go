package spackinstall

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// knownLock returns the lock file to begin with: the one beside the environment,
// or the earlier result of the same inputs.
func (j *Job) knownLock() []byte {
	if j.Inputs.lock != nil {
		return j.Inputs.lock
	}
	data, err := os.ReadFile(j.lockPath())
	if err != nil {
		return nil
	}
	if _, err := spack.ParseLock(j.lockPath(), data); err != nil {
		return nil // it is made again
	}
	_ = cache.Touch(j.lockPath())
	return data
}

// lockPath is the file with the result of concretizing: the same inputs give the
// same, and after a failed installation it is not computed again.
func (j *Job) lockPath() string { return LockPath(j.Store, j.LockKey) }

// LockPath returns the file with the environment that a step was concretized to.
func LockPath(s *spackmirror.Store, key string) string {
	return filepath.Join(s.Path("locks"), key+".lock")
}

// concretize lets Spack decide what exactly will be installed.
func (j *Job) concretize(ctx context.Context) error {
	args := []string{"-e", j.dir, "concretize"}
	if j.Recipe.Concretize != "" {
		args = append(args, "--"+j.Recipe.Concretize)
	}
	if err := j.exec(ctx, j.command(args...)); err != nil {
		return j.concretizeError(err)
	}
	var err error
	if j.lockData, err = j.step.Root().ReadFile(path.Join(j.dir, spack.LockFileName)); errors.Is(err, fs.ErrNotExist) {
		return &failure.InputError{Err: errors.New("the environment has no specs: there is nothing to install"), Hint: "add packages to specs: in " + j.Recipe.Environment}
	} else if err != nil {
		return err
	}
	if j.lock, err = spack.ParseLock(path.Join(j.dir, spack.LockFileName), j.lockData); err != nil {
		return err
	}
	j.developed = j.lock.Developed()
	if !j.fits(j.Inputs.lock) {
		j.warn("the spack.lock beside the environment does not fit it any more; what it lacked was concretized anew")
	}
	return atomicfile.Write(j.lockPath(), j.lockData, 0o600)
}

// fits reports whether the lock file beside the environment, if there is one, has
// the result of Spack. A newer Spack may write the same in another form.
func (j *Job) fits(data []byte) bool {
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

// concretizeError returns the error with Spack's message and a hint.
func (j *Job) concretizeError(err error) error {
	var step *failure.StepError
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
