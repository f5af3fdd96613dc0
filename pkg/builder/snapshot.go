package builder

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// A snapshot is what the files of a working layer were before a command ran, by
// their paths. Drivers other than overlay keep a layer as a full copy, and only
// this tells which files a command has touched: sizes and times do not, since
// the files of all layers have the same time. The kernel sets the time of a
// file's last change with whatever changes the file, and no command can set it.
type snapshot map[string]fileState

// A fileState is another one after every change of the file's content,
// attributes or names, and for another file under the same name.
type fileState struct {
	fileentry.Inode
	change syscall.Timespec
	names  uint64
}

func stateOf(info fs.FileInfo) fileState {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileState{}
	}
	return fileState{fileentry.InodeOf(info), st.Ctim, uint64(st.Nlink)} //nolint:unconvert // not a uint64 on every architecture
}

func takeSnapshot(root *rootfs.Root) (snapshot, error) {
	all := snapshot{}
	return all, root.Walk("/", func(f *rootfs.File) error {
		all[f.Name] = stateOf(f.Info)
		return nil
	})
}

// scanTouched reads the working layer and takes for changed what an overlay
// would have in its upper directory: what a command has touched, and the
// directories in which that is.
func (wk *work) scanTouched(tree *layer.Tree) error {
	gone := maps.Clone(wk.first)
	links := &fileentry.Links{}
	err := wk.root.Walk("/", func(f *rootfs.File) error {
		if f.Info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		before, existed := wk.first[f.Name]
		delete(gone, f.Name)
		if existed && (before == stateOf(f.Info) || wk.lostName(f, before)) {
			return nil
		}
		e, err := fileentry.New(f, f.Name, links)
		if err != nil {
			return err
		}
		return tree.Add(e)
	})
	if err != nil {
		return err
	}
	for name := range gone {
		if err := wk.removeGone(name, gone, tree); err != nil {
			return err
		}
	}
	for _, dir := range tree.MissingParents() {
		if err := wk.addDirectory(dir, tree); err != nil {
			return err
		}
	}
	return nil
}

// removeGone adds the whiteout of a file that is gone, unless its directory is
// gone as well.
func (wk *work) removeGone(name string, gone snapshot, tree *layer.Tree) error {
	dir := path.Dir(name)
	if _, ok := gone[dir]; ok {
		return nil
	}
	if info, err := wk.root.LstatExact(dir); err != nil || !info.IsDir() {
		return err
	}
	return tree.Remove(name)
}

func (wk *work) addDirectory(name string, tree *layer.Tree) error {
	f, err := wk.root.FileExact(name)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := fileentry.Unlinked(f, name)
	if err != nil {
		return err
	}
	return tree.Add(e)
}

// lostName reports whether all that has happened to a file is that another of
// its names was removed, which an overlay does not count as a change.
func (wk *work) lostName(f *rootfs.File, before fileState) bool {
	now := stateOf(f.Info)
	if now.Inode != before.Inode || now.names >= before.names || !f.Info.Mode().IsRegular() {
		return false
	}
	old, err := wk.fileBefore(f.Name)
	if err != nil || old == nil {
		wk.notSeen(err)
		return false
	}
	defer old.Close()
	same, err := sameFile(f, old)
	wk.notSeen(err)
	return err == nil && same
}

// sameFile reports whether two regular files would be the same entry of a layer.
func sameFile(a, b *rootfs.File) (bool, error) {
	if !b.Info.Mode().IsRegular() || a.Info.Size() != b.Info.Size() || !a.Info.ModTime().Equal(b.Info.ModTime()) {
		return false, nil
	}
	x, err1 := fileentry.Unlinked(a, a.Name)
	y, err2 := fileentry.Unlinked(b, b.Name)
	if err := errors.Join(err1, err2); err != nil || !layer.SameAttributes(&x.Header, &y.Header) {
		return false, err
	}
	return sameContent(x.Open, y.Open)
}

func sameContent(a, b func() (io.ReadCloser, error)) (bool, error) {
	var sums [2]digest.Digest
	for i, open := range []func() (io.ReadCloser, error){a, b} {
		content, err := open()
		if err != nil {
			return false, err
		}
		sums[i], err = digest.FromReader(content)
		if err := errors.Join(err, content.Close()); err != nil {
			return false, err
		}
	}
	return sums[0] == sums[1], nil
}
