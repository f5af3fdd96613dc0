package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// layerFiles finds the files of an image in the directories of its layers,
// where they can be looked at without a mount and hard-linked. It knows none
// where the driver keeps layers in another way than overlay does.
type layerFiles struct {
	// dirs are the layers' directories, the top layer's first.
	dirs []string
	// having caches which of them a directory consists of, by its path.
	having map[string][]int
	// current is the directory in which a file was looked for last, and parts
	// are what it consists of. Others are closed: an image may have hundreds
	// of layers.
	current string
	parts   []*rootfs.Root
	// roots are the layers that file has returned.
	roots map[int]*rootfs.Root
	// err is why a directory could not be looked at, since the disk fails.
	err error
}

// note keeps the error of a disk, which says nothing about what is there.
func (l *layerFiles) note(err error) {
	if l.err == nil && imagestore.IsDiskError(err) {
		l.err = err
	}
}

func newLayerFiles(store *imagestore.Store, top string) (*layerFiles, error) {
	l := &layerFiles{having: map[string][]int{"/": nil}}
	if !store.CanStage() {
		return l, nil
	}
	var chain []*storage.Layer
	for id := top; id != ""; {
		stored, err := store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("find layer %.12s: %w", id, err)
		}
		chain = append(chain, stored)
		id = stored.Parent
	}
	slices.Reverse(chain)
	dirs, err := chainDirs(store, chain)
	if err != nil {
		return nil, err
	}
	slices.Reverse(dirs)
	l.dirs = dirs
	for i := range dirs {
		l.having["/"] = append(l.having["/"], i)
	}
	return l, nil
}

// known reports whether the layers have directories.
func (l *layerFiles) known() bool { return len(l.dirs) > 0 }

// close closes all that is open.
func (l *layerFiles) close() {
	l.leave()
	for _, r := range l.roots {
		_ = r.Close() // it was only read
	}
	l.roots = nil
}

// leave closes the current directory.
func (l *layerFiles) leave() {
	for _, r := range l.parts {
		_ = r.Close() // it was only looked at
	}
	l.current, l.parts = "", nil
}

// holder returns the number of the layer that has the file or directory as
// the image shows it, from the top; false where the image has none.
func (l *layerFiles) holder(name string) (int, fs.FileInfo, bool) {
	dir, base := path.Split(path.Clean("/" + name))
	dir = path.Clean(dir)
	having := l.in(dir)
	for part, r := range l.open(dir) {
		info, err := r.LstatExact(base)
		if err == nil {
			return having[part], info, !isWhiteout(info)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			l.note(err)
			return 0, nil, false
		}
	}
	return 0, nil, false
}

// find returns the file or directory as the image shows it, in the layer that
// has it; nil where the image has none. Close it.
func (l *layerFiles) find(name string) (*rootfs.File, error) {
	i, _, ok := l.holder(name)
	if !ok {
		return nil, l.err
	}
	r, err := rootfs.Open(l.dirs[i])
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.FileExact(name)
}

// open opens what a directory consists of, in the order of in.
func (l *layerFiles) open(dir string) []*rootfs.Root {
	if l.current == dir {
		return l.parts
	}
	l.leave()
	for _, i := range l.in(dir) {
		part, err := openPart(l.dirs[i], dir)
		if err != nil {
			l.note(err)
			l.leave()
			return nil
		}
		l.parts = append(l.parts, part)
	}
	l.current = dir
	return l.parts
}

func openPart(layer, dir string) (*rootfs.Root, error) {
	r, err := rootfs.Open(layer)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Sub(dir)
}

// file returns which layer has the regular file that is seen at name in the
// mounted image as info, counted from 1, and that layer's directory, which is
// open until close; 0 if none has it.
func (l *layerFiles) file(name string, info fs.FileInfo) (int, *rootfs.Root) {
	i, found, ok := l.holder(name)
	if !ok || !found.Mode().IsRegular() || inodeNumber(found) != inodeNumber(info) {
		return 0, nil // the caller reads what it sees
	}
	if l.roots[i] == nil {
		r, err := rootfs.Open(l.dirs[i])
		if err != nil {
			l.note(err)
			return 0, nil
		}
		if l.roots == nil {
			l.roots = map[int]*rootfs.Root{}
		}
		l.roots[i] = r
	}
	return i + 1, l.roots[i]
}

func inodeNumber(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ino
}

// in returns the layers of which the image's directory consists: the topmost
// and those below that nothing hides.
func (l *layerFiles) in(dir string) []int {
	if found, ok := l.having[dir]; ok {
		return found
	}
	var found []int
	for _, i := range l.in(path.Dir(dir)) {
		isDir, opaque, err := l.look(i, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !isDir {
			l.note(err)
			break
		}
		found = append(found, i)
		if opaque {
			break
		}
	}
	l.having[dir] = found
	return found
}

// look says what dir is in one layer.
func (l *layerFiles) look(i int, dir string) (isDir, opaque bool, err error) {
	r, err := rootfs.Open(l.dirs[i])
	if err != nil {
		return false, false, err
	}
	defer r.Close()
	f, err := r.FileExact(dir)
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	if !f.Info.IsDir() {
		return false, false, nil
	}
	return true, l.isOpaque(f), nil
}

func (l *layerFiles) isOpaque(dir *rootfs.File) bool {
	names, err := fileentry.AttributeNames(dir)
	for _, n := range names {
		if strings.HasSuffix(n, ".overlay.opaque") {
			var value string
			value, err = fileentry.Attribute(dir, n)
			if value == "y" {
				return true
			}
		}
	}
	l.note(err)
	return false
}
