package imagestore

import (
	"io/fs"
	"os"
	"path/filepath"

	storagelock "go.podman.io/storage/pkg/lockfile"
)

// Mend removes what the storage library has left when its process was killed,
// and puts the short names of layers right. It may be called while others use
// the store. What can't be mended now stays for the next time.
func (s *Store) Mend() {
	root, run, driver := s.GraphRoot(), s.RunRoot(), s.GraphDriverName()
	for dir, lock := range map[string]string{
		filepath.Join(root, driver+"-images"):     "images.lock",
		filepath.Join(root, driver+"-layers"):     "layers.lock",
		filepath.Join(root, driver+"-containers"): "containers.lock",
		filepath.Join(run, driver+"-layers"):      "mountpoints.lock",
	} {
		s.clearFiles(filepath.Join(dir, lock), func() []string { return matching(dir, libraryFile+"*", "*/"+libraryFile+"*") })
	}
	// What it tries mounts with when it opens the store.
	s.clearFiles(filepath.Join(root, "storage.lock"), func() []string {
		return matching(filepath.Join(root, driver), "compat[0-9]*", "*-check[0-9]*")
	})
	s.mend(filepath.Join(root, driver+"-layers", "layers.lock"), func() []func() { return shortNameFaults(filepath.Join(root, driver)) })
}

// libraryFile begins the name of a file that the storage library has not
// finished.
const libraryFile = ".tmp-"

// clearFiles removes files that the storage library has left.
func (s *Store) clearFiles(lock string, find func() []string) {
	s.mend(lock, func() (repairs []func()) {
		for _, path := range find() {
			repairs = append(repairs, func() { os.RemoveAll(path) })
		}
		return repairs
	})
}

// mend repairs what find finds. The storage library changes its files under
// the lock: who has that knows that nobody is at them.
func (s *Store) mend(lock string, find func() []func()) {
	if len(find()) == 0 {
		return
	}
	_ = s.do(func() error { // the next call tries again
		l, err := storagelock.GetLockFile(lock)
		if err != nil {
			return err
		}
		l.Lock()
		defer l.Unlock()
		for _, repair := range find() {
			repair()
		}
		return nil
	})
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
