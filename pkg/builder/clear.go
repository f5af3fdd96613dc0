package builder

import (
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
		clearLibraryFiles(dir, filepath.Join(dir, lock))
	}
}

// libraryFile begins the name of a file that the storage library has not
// finished.
const libraryFile = ".tmp-"

// clearLibraryFiles removes what the storage library writes before it renames
// it. It writes under its lock: who has that knows that nobody is writing.
func clearLibraryFiles(dir, lock string) {
	if len(unfinished(dir)) == 0 {
		return
	}
	l, err := storagelock.GetLockFile(lock)
	if err != nil {
		return // the next build tries again
	}
	l.Lock()
	defer l.Unlock()
	for _, path := range unfinished(dir) {
		os.Remove(path)
	}
}

// unfinished are the library's files in dir and in the directories there.
func unfinished(dir string) (paths []string) {
	for _, pattern := range []string{libraryFile + "*", "*/" + libraryFile + "*"} {
		names, _ := fs.Glob(os.DirFS(dir), pattern) // the pattern is right
		for _, name := range names {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}
