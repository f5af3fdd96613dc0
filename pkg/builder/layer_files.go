package builder

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// layerFiles finds the files of a mounted image in the directories of its
// layers, where they can be hard-linked. It knows none where the driver keeps
// its layers in another way than overlay does.
type layerFiles struct {
	// dirs are the layers' directories, the top layer's first.
	dirs []string
	// having caches which of them have a directory, by its path.
	having map[string][]int
}

func (b *Builder) layerFiles(top string) (*layerFiles, error) {
	l := &layerFiles{having: map[string][]int{}}
	if !b.stages {
		return l, nil
	}
	chain, err := b.layers(top)
	if err != nil {
		return nil, err
	}
	for i := len(chain) - 1; i >= 0; i-- {
		dir, err := layerDir(b.store, chain[i].ID)
		if err != nil {
			return nil, err
		}
		l.dirs = append(l.dirs, dir)
		l.having["/"] = append(l.having["/"], len(l.dirs)-1)
	}
	return l, nil
}

// find returns which layer has the file that is seen at name in the mounted
// image as info, counted from 1, and its path there; 0 if it is not found.
func (l *layerFiles) find(name string, info fs.FileInfo) (int, string) {
	name = path.Clean("/" + name)
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, ""
	}
	for _, i := range l.in(path.Dir(name)) {
		full := filepath.Join(l.dirs[i], name)
		found, err := os.Lstat(full)
		if err != nil {
			continue
		}
		if st, ok := found.Sys().(*syscall.Stat_t); ok && found.Mode().IsRegular() && st.Ino == want.Ino && st.Size == want.Size {
			return i + 1, full
		}
		return 0, "" // hidden by something else: the caller reads what it sees
	}
	return 0, ""
}

// in returns which layers have the directory.
func (l *layerFiles) in(dir string) []int {
	if found, ok := l.having[dir]; ok {
		return found
	}
	var found []int
	for _, i := range l.in(path.Dir(dir)) {
		if info, err := os.Lstat(filepath.Join(l.dirs[i], dir)); err == nil && info.IsDir() {
			found = append(found, i)
		}
	}
	l.having[dir] = found
	return found
}
