package builder

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// lookWhatIsThere finds out which packages need not be installed, and keeps that
// for plans, which do not look into images.
func (j *spackJob) lookWhatIsThere(ctx context.Context) (err error) {
	if j.thereAlready, err = j.there(ctx); err != nil {
		return err
	}
	var hashes []string
	for _, hash := range slices.Sorted(maps.Keys(j.thereAlready)) {
		if j.lock.Specs[hash] != nil {
			hashes = append(hashes, hash)
		}
	}
	file := j.run.b.therePath(j.planned.Key)
	if len(hashes) == 0 && !j.in.mayHaveUpstreams(j.step) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return atomicfile.Write(file, []byte(strings.Join(hashes, "\n")), 0o600)
}

// therePath is beside what the step has concretized to.
func (b *Builder) therePath(key string) string {
	return filepath.Join(b.spackCache("locks"), key+".there")
}

// readThere returns the packages that were there when the step last ran, and
// whether that is known.
func (b *Builder) readThere(key string) (there map[string]string, known bool) {
	data, err := os.ReadFile(b.therePath(key))
	if err != nil {
		return nil, false
	}
	there = map[string]string{}
	for hash := range strings.FieldsSeq(string(data)) {
		there[hash] = hash
	}
	return there, true
}
