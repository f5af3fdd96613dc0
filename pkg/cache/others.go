package cache

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// seeOthers makes the system look anew what is in a directory. On NFS it
// remembers for up to a minute which names are there, and which are not, whatever
// other hosts do meanwhile; that the directory changes ends it. Its time means
// nothing here. Trouble is that of whoever reads the directory.
func seeOthers(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
}

// names are the files in dir that match, as they are now for all hosts.
func names(dir, pattern string) []string {
	seeOthers(dir)
	found, _ := fs.Glob(os.DirFS(dir), pattern) // the pattern is right
	for i := range found {
		found[i] = filepath.Join(dir, found[i])
	}
	return found
}
