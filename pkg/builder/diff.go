package builder

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"go.podman.io/storage/pkg/idtools"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// errNoUpper says that the changes are no directory that could be read.
var errNoUpper = errors.New("the changes are not spelled out in a directory")

// changes lists what the working layer changes: with overlay, that is a
// directory. Other drivers find the changes by comparing; see encodeDriverDiff.
// Both make the same layer of the same changes.
//
// Store.Diff is of no use here: its stream holds a lock of the store that
// Store.PutLayer, which reads the stream, waits for.
func (wk *work) changes() (*layer.Tree, error) {
	upper, ok := wk.upperDir()
	if !ok {
		return nil, errNoUpper
	}
	tree := &layer.Tree{}
	if err := scanUpper(upper, tree, wk.closed); err != nil {
		return nil, err
	}
	return tree, nil
}

// clean reports whether nothing is left of what a command has done: sockets,
// for example, are in no layer, but the next command would see them.
func (wk *work) clean() bool {
	upper, ok := wk.upperDir()
	if !ok {
		return false
	}
	err := filepath.WalkDir(upper, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = fs.ErrExist
		}
		return err
	})
	return err == nil
}

// upperDir is where an overlay keeps the changes.
func (wk *work) upperDir() (string, bool) {
	driver, err := wk.owner.store.GraphDriver()
	if err != nil || driver.String() != "overlay" {
		return "", false
	}
	meta, err := driver.Metadata(wk.id)
	return meta["UpperDir"], err == nil && meta["UpperDir"] != ""
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
	return &rootView{root: wk.below.root}, nil
}

// viewBefore is a root that has the file or directory as it was before the
// changes; nil when it was not there. With overlay, that is the directory of a
// layer, and nothing has to be mounted.
func (wk *work) viewBefore(name string) (*rootView, error) {
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
	if !wk.files.known() {
		return wk.before()
	}
	if i, _, ok := wk.files.holder(name); ok {
		return &rootView{root: wk.files.dirs[i]}, nil
	}
	return nil, wk.files.err
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
	before, err := wk.viewBefore(hdr.Name)
	if err != nil || before == nil {
		wk.notSeen(err)
		return true
	}
	old, err := before.header("/" + hdr.Name)
	if err != nil || old.Typeflag != tar.TypeDir {
		wk.notSeen(err)
		return true
	}
	if err := readAttributes(filepath.Join(before.root, hdr.Name), old); err != nil {
		wk.notSeen(err)
		return true
	}
	maps.DeleteFunc(old.PAXRecords, func(key, _ string) bool {
		name := strings.TrimPrefix(key, "SCHILY.xattr.")
		return name == layer.OwnerXattr || strings.Contains(name, ".overlay.")
	})
	return old.Mode&0o7777 != hdr.Mode&0o7777 || old.Uid != hdr.Uid || old.Gid != hdr.Gid || len(old.PAXRecords) != len(hdr.PAXRecords)
}

// hides reports whether what a whiteout is about was there before the changes.
func (wk *work) hides(name string) bool {
	before, err := wk.viewBefore(name)
	if err == nil && before == nil {
		return false
	}
	if err == nil {
		_, err = os.Lstat(filepath.Join(before.root, name))
	}
	wk.notSeen(err)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
}

// unchanged reports whether a file is the one that was there before.
func (wk *work) unchanged(name string) bool {
	before, err := wk.viewBefore(name)
	if err != nil || before == nil {
		wk.notSeen(err)
		return false
	}
	old, err1 := os.Lstat(filepath.Join(before.root, name))
	now, err2 := os.Lstat(filepath.Join(wk.root, name))
	wk.notSeen(err1, err2)
	return err1 == nil && err2 == nil && old.ModTime().Equal(now.ModTime()) && old.Size() == now.Size()
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

// lower lists a directory as it was before the changes.
func (wk *work) lower(dir string) ([]string, error) {
	before, err := wk.before()
	if err != nil || before == nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(before.root, dir))
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
// Closed says that nobody can write to the files any more, so that they may
// become the layer's by hard links.
func scanUpper(upper string, tree *layer.Tree, closed bool) error {
	links := &hardLinks{}
	return filepath.WalkDir(upper, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// A clone, or each name would keep the whole path in memory.
		name := strings.Clone(strings.TrimPrefix(strings.TrimPrefix(full, upper), "/"))
		if name == "" || d.Type()&fs.ModeSocket != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if isWhiteout(info) {
			dir, base := path.Split(name)
			return tree.Add(layer.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base}})
		}
		if err := scanOverlayAttributes(full, name, info, tree); err != nil {
			return err
		}
		e, err := fileEntry(hostFile{upper, name}, name, info, links)
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && closed {
			e.Origin = layer.Origin{Dir: upper, Name: name, Owned: true}
		}
		return tree.Add(e)
	})
}

func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// scanOverlayAttributes adds the opaque marker of a directory. Directories
// that are somewhere else (redirect) and files without content (metacopy) are
// errNoUpper.
func scanOverlayAttributes(full, name string, info fs.FileInfo, tree *layer.Tree) error {
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil
	}
	names, err := attributeNames(full)
	if err != nil {
		return err
	}
	for _, n := range names {
		_, ours, _ := strings.Cut(n, ".overlay.")
		switch ours {
		case "redirect", "metacopy":
			return errNoUpper
		case "opaque":
			value, err := attribute(full, n)
			if err != nil || value != "y" {
				return err
			}
			err = tree.Add(layer.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name + "/.wh..wh..opq"}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// encodeDriverDiff lets the driver find the changes. Contents pass through a
// file without a name, of which nothing can stay behind.
func (wk *work) encodeDriverDiff(dst io.Writer, opt layer.Options) (err error) {
	driver, err := wk.owner.store.GraphDriver()
	if err != nil {
		return fmt.Errorf("read the changes: %w", err)
	}
	none := &idtools.IDMappings{}
	diff, err := driver.Diff(wk.id, none, wk.parent, none, "")
	if err != nil {
		return fmt.Errorf("read the changes: %w", err)
	}
	defer func() { err = errors.Join(err, diff.Close()) }()
	temporary, err := wk.owner.begin()
	if err != nil {
		return err
	}
	scratch, err := os.CreateTemp(temporary, "diff-*")
	if err != nil {
		return fmt.Errorf("read the changes: %w", err)
	}
	defer scratch.Close()
	if err := os.Remove(scratch.Name()); err != nil {
		return fmt.Errorf("read the changes: %w", err)
	}
	opt.Scratch = scratch
	_, err = layer.Normalize(dst, diff, opt)
	return err
}
