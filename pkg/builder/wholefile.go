package builder

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

// newFile begins the name of a file that writeWhole has not finished.
const newFile = ".new-"

// writeWhole leaves the old content or the new one. The new file is held until
// it has its name, so that those of killed builds can be told apart.
func writeWhole(name string, data []byte) (err error) {
	temp := filepath.Join(filepath.Dir(name), newFile+rand.Text())
	hold, err := lockfile.New(temp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
		_ = hold.Close() // nothing was written through it
	}()
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, name)
}

// clearNew removes what writeWhole has not finished in these directories, since
// its process was killed.
func clearNew(dirs ...string) {
	for _, dir := range dirs {
		lockfile.Abandoned(dir, func(name string) bool { return strings.HasPrefix(name, newFile) }, func(name string) {
			_ = os.Remove(filepath.Join(dir, name))
		})
	}
}
