package builder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	storagelock "go.podman.io/storage/pkg/lockfile"
)

// clear removes what builds that were killed have left, but for their layers:
// see works.
func (b *Builder) clear() {
	b.steps.Clear()
	root, run := b.store.GraphRoot(), b.store.RunRoot()
	driver := b.store.GraphDriverName()
	for dir, lock := range map[string]string{
		filepath.Join(root, driver+"-images"):     "images.lock",
		filepath.Join(root, driver+"-layers"):     "layers.lock",
		filepath.Join(root, driver+"-containers"): "containers.lock",
		filepath.Join(run, driver+"-layers"):      "mountpoints.lock",
	} {
		clearFiles(filepath.Join(dir, lock), func() []string { return matching(dir, libraryFile+"*", "*/"+libraryFile+"*") })
	}
	// What it tries mounts with when it opens the store.
	clearFiles(filepath.Join(root, "storage.lock"), func() []string {
		return matching(filepath.Join(root, driver), "compat[0-9]*", "*-check[0-9]*")
	})
	// The overlay driver gives each layer a short name, before it notes it.
	clearFiles(filepath.Join(root, driver+"-layers", "layers.lock"), func() []string { return dangling(filepath.Join(root, driver, "l")) })
}

// libraryFile begins the name of a file that the storage library has not
// finished.
const libraryFile = ".tmp-"

// clearFiles removes files that the storage library has left. It makes them
// under its lock: who has that knows that nobody is at it.
func clearFiles(lock string, find func() []string) {
	if len(find()) == 0 {
		return
	}
	l, err := storagelock.GetLockFile(lock)
	if err != nil {
		return // the next build tries again
	}
	l.Lock()
	defer l.Unlock()
	for _, path := range find() {
		os.RemoveAll(path)
	}
}

// matching are the files in dir, and in the directories there, that match.
func matching(dir string, patterns ...string) (paths []string) {
	for _, pattern := range patterns {
		names, _ := fs.Glob(os.DirFS(dir), pattern) // the pattern is right
		for _, name := range names {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

// dangling are the symbolic links in dir to layers that are gone. A layer that
// is there may be without its files for a moment, and keeps its name.
func dangling(dir string) (paths []string) {
	entries, _ := os.ReadDir(dir) // other drivers have no such directory
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		target, err := os.Readlink(path) // ../ID/diff
		if err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, filepath.Dir(target))); errors.Is(err, fs.ErrNotExist) {
			paths = append(paths, path)
		}
	}
	return paths
}
