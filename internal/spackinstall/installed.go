package spackinstall

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
	"github.com/pdidev/pdibuild/internal/spackmirror"
)

// recordInstalled finds the packages that need not be installed, and records them
// for plans, which do not look into images.
func (j *Job) recordInstalled(ctx context.Context) (err error) {
	if j.installed, err = j.alreadyInstalled(ctx); err != nil {
		return err
	}
	if err := j.outdateDeveloped(); err != nil {
		return err
	}
	var hashes []string
	for _, hash := range slices.Sorted(maps.Keys(j.installed)) {
		if j.lock.Specs[hash] != nil {
			hashes = append(hashes, hash)
		}
	}
	file := installedPath(j.Store, j.LockKey)
	if len(hashes) == 0 && !j.Inputs.mayHaveUpstreams(j.Recipe) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return atomicfile.Write(file, []byte(strings.Join(hashes, "\n")), 0o600)
}

// installedPath is the file beside the step's lock file.
func installedPath(s *spackmirror.Store, key string) string {
	return filepath.Join(s.Path("locks"), key+".there")
}

// readInstalled returns the packages that were installed already when the step
// last ran, and whether that is known.
func readInstalled(s *spackmirror.Store, key string) (installed map[string]string, known bool) {
	data, err := os.ReadFile(installedPath(s, key))
	if err != nil {
		return nil, false
	}
	installed = map[string]string{}
	for hash := range strings.FieldsSeq(string(data)) {
		installed[hash] = hash
	}
	return installed, true
}
