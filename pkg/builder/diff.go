package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// changes lists what the working layer changes: with overlay, that is a
// directory; with other drivers, what differs from a snapshot. Both make the same
// layer of the same changes.
//
// Store.Diff is of no use here: its stream holds a lock of the store that
// Store.PutLayer, which reads the stream, waits for.
func (wk *work) changes() (*layer.Tree, error) {
	tree := &layer.Tree{}
	if err := wk.scan(tree); err != nil {
		return nil, err
	}
	root, changed, err := wk.rootEntry()
	if changed {
		tree.AddRoot(root)
	}
	return tree, err
}

func (wk *work) scan(tree *layer.Tree) error {
	if wk.first != nil {
		return wk.scanTouched(tree)
	}
	upper, err := wk.openUpper()
	if err != nil {
		return err
	}
	return wk.scanUpper(upper, tree)
}

// clean reports whether nothing is left of what a command has done: sockets,
// for example, are in no layer, but the next command would see them.
func (wk *work) clean() bool {
	upper, err := wk.openUpper()
	if err != nil {
		return false
	}
	err = upper.Walk("/", func(f *rootfs.File) error {
		if !f.Info.IsDir() {
			return fs.ErrExist
		}
		return nil
	})
	_, changed, rootErr := wk.rootEntry()
	return err == nil && rootErr == nil && !changed
}

// errNoUpper says that the storage driver does not keep the changes apart.
var errNoUpper = errors.New("this storage driver has no directory of changes")

// openUpper opens the directory in which an overlay keeps the changes. It is
// closed with the working layer.
func (wk *work) openUpper() (*rootfs.Root, error) {
	if wk.upper != nil {
		return wk.upper, nil
	}
	driver, err := wk.owner.store.GraphDriver()
	if err != nil || driver.String() != "overlay" {
		return nil, errNoUpper
	}
	meta, err := driver.Metadata(wk.id)
	if err != nil || meta["UpperDir"] == "" {
		return nil, errNoUpper
	}
	wk.upper, err = rootfs.Open(meta["UpperDir"])
	return wk.upper, err
}

// before is the root as it was before the changes; nil when there was none.
func (wk *work) before() (*rootView, error) {
	if wk.parent == "" {
		return nil, nil
	}
	if wk.below == nil {
		below, err := wk.owner.create(wk.parent)
		if err != nil {
			return nil, err
		}
		wk.below = below
	}
	return &rootView{Root: wk.below.root}, nil
}

// fileBefore is a file or directory as it was before the changes; nil when it
// was not there, which is also so for what was behind a link. With overlay, it
// is in the directory of a layer, and nothing has to be mounted. Close it.
func (wk *work) fileBefore(name string) (*rootfs.File, error) {
	if wk.parent == "" {
		return nil, nil
	}
	if wk.files == nil {
		files, err := newLayerFiles(wk.owner.store, wk.parent)
		if err != nil {
			return nil, err
		}
		wk.files = files
	}
	if wk.files.known() {
		return wk.files.find(name)
	}
	before, err := wk.before()
	if err != nil {
		return nil, err
	}
	f, err := before.FileExact(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return f, err
}

// notSeen keeps the error of a disk that hides what was there before: the layer
// would be another one.
func (wk *work) notSeen(errs ...error) {
	for _, err := range errs {
		if wk.unseen == nil && imagestore.IsDiskError(err) {
			wk.unseen = fmt.Errorf("compare with the layers below: %w", err)
		}
	}
}

// changed reports whether a directory that a command has touched is another
// one now. That it had a file for a while does not count.
func (wk *work) changed(hdr *tar.Header) bool {
	before, err := wk.fileBefore(hdr.Name)
	if err != nil || before == nil {
		wk.notSeen(err)
		return true
	}
	defer before.Close()
	old, err := fileHeader(before)
	if err == nil {
		err = fileentry.ReadAttributes(before, old)
	}
	if err != nil || old.Typeflag != tar.TypeDir {
		wk.notSeen(err)
		return true
	}
	return !layer.SameAttributes(old, hdr)
}

// hides reports whether what a whiteout is about was there before the changes.
func (wk *work) hides(name string) bool {
	before, err := wk.fileBefore(name)
	if before != nil {
		_ = before.Close()
	}
	wk.notSeen(err)
	return err != nil || before != nil
}

// unchanged reports whether a file is the one that was there before.
func (wk *work) unchanged(name string) bool {
	before, err := wk.fileBefore(name)
	if err != nil || before == nil {
		wk.notSeen(err)
		return false
	}
	defer before.Close()
	now, err := wk.root.LstatExact(name)
	wk.notSeen(err)
	return err == nil && before.Info.ModTime().Equal(now.ModTime()) && before.Info.Size() == now.Size()
}

// differences are the options for a layer of the changes, whichever driver
// finds them. Only fuse-overlayfs makes whiteouts that hide nothing; with others
// to ask costs a look for each file that was removed, with vfs a copy of all.
func (wk *work) differences(opt layer.Options) layer.Options {
	opt.Lower, opt.Changed, opt.Below = wk.lower, wk.changed, wk.unchanged
	if wk.owner.store.UsesMountProgram() {
		opt.Hides = wk.hides
	}
	return opt
}

// lower lists a directory as it was before the changes. A link to one had
// nothing below it that has to be hidden.
func (wk *work) lower(dir string) ([]string, error) {
	before, err := wk.before()
	if err != nil || before == nil {
		return nil, err
	}
	entries, err := before.ReadDirExact(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// scanUpper reads the upper directory of an overlay; see the kernel's
// Documentation/filesystems/overlayfs.rst for whiteouts and opaque directories.
// Once the working layer is closed its files may become the layer's by hard
// links.
func (wk *work) scanUpper(upper *rootfs.Root, tree *layer.Tree) error {
	links := &fileentry.Links{}
	return upper.Walk("/", func(f *rootfs.File) error {
		name := strings.TrimPrefix(f.Name, "/")
		if name == "" {
			return nil
		}
		if f.Info.Mode()&fs.ModeSocket != 0 {
			return wk.removeUnderSocket(name, tree)
		}
		if wk.isFuseMark(name) {
			return addFuseMark(name, tree)
		}
		if isWhiteout(f.Info) {
			return tree.Remove(name)
		}
		wk.links.noteUpper(f)
		switch elsewhere, err := scanOverlayAttributes(f, tree); {
		case err != nil:
			return err
		case elsewhere:
			return wk.addSeen(f, tree, links)
		}
		e, err := fileentry.New(f, name, links)
		if err != nil {
			return err
		}
		if f.Info.Mode().IsRegular() && wk.closed {
			e.Origin = layer.Origin{Root: upper, Name: name, Owned: true}
		}
		return tree.Add(e)
	})
}

// removeUnderSocket removes what a socket has replaced: a socket is in no layer.
func (wk *work) removeUnderSocket(name string, tree *layer.Tree) error {
	if !wk.hides(name) {
		return nil
	}
	return tree.Remove(name)
}

// isFuseMark reports whether a name in the upper directory is one of
// fuse-overlayfs's marks, which a process in the root does not see. A file that
// a command has called so is none.
func (wk *work) isFuseMark(name string) bool {
	return strings.HasPrefix(path.Base(name), ".wh.") && wk.owner.store.UsesMountProgram() && !wk.has(name)
}

// has reports whether the command has left a file of that name.
func (wk *work) has(name string) bool {
	_, err := wk.root.LstatExact(name)
	return err == nil
}

// addFuseMark adds what a mark means: fuse-overlayfs writes whiteouts like those
// of layers where it cannot make devices, and two marks in opaque directories.
func addFuseMark(name string, tree *layer.Tree) error {
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" || base == ".wh..opq" {
		return tree.RemoveBelow(dir)
	}
	return tree.Remove(dir + strings.TrimPrefix(base, ".wh."))
}

func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// scanOverlayAttributes adds the opaque marker of a directory. Elsewhere is what
// is not in the upper directory: the files of a directory that was renamed
// (redirect), and the content of a file of which only attributes were changed
// (metacopy). Kernels and storage.conf can switch both on.
func scanOverlayAttributes(f *rootfs.File, tree *layer.Tree) (elsewhere bool, err error) {
	if !f.Info.IsDir() && !f.Info.Mode().IsRegular() {
		return false, nil
	}
	names, err := fileentry.AttributeNames(f)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		_, ours, _ := strings.Cut(n, ".overlay.")
		switch ours {
		case "redirect", "metacopy":
			return true, nil
		case "opaque":
			value, err := fileentry.Attribute(f, n)
			if err != nil || value != "y" {
				return false, err
			}
			if err := tree.RemoveBelow(f.Name); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// addSeen adds a file or directory of the upper directory as a process in the
// root sees it, and of a directory all that is in it.
func (wk *work) addSeen(f *rootfs.File, tree *layer.Tree, links *fileentry.Links) error {
	if f.Info.IsDir() {
		if err := tree.RemoveBelow(f.Name); err != nil {
			return err
		}
	}
	err := wk.root.Walk(f.Name, func(f *rootfs.File) error {
		if f.Info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		e, err := fileentry.New(f, f.Name, links)
		if err != nil {
			return err
		}
		return tree.Add(e)
	})
	if err == nil && f.Info.IsDir() {
		return fs.SkipDir
	}
	return err
}
