package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A copier puts sources into a tree, under the names and with the attributes
// that a copy step gives them.
type copier struct {
	tree *layer.Tree
	// image is where the tree will be: links on the way to a name are followed
	// in it. Nil takes names as they are.
	image *rootView
	// to is the destination; intoDir says that files go below it.
	to       string
	intoDir  bool
	uid, gid int
	// ownsParents gives that owner to the directories above, too, where they
	// are missing.
	ownsParents bool
	mode        int64
	// source is what is being copied, for messages.
	source string
	// linked are files that may have further names.
	linked map[inode]linkedFile
	// dirs are the places of directories, by their names.
	dirs map[string]place
}

// A linkedFile is a file of the tree and the path from which it was taken.
type linkedFile struct {
	file   layer.Inode
	source string
}

// keptMode keeps the mode of what is copied.
const keptMode = -1

func parseMode(text string) (int64, error) {
	if text == "" {
		return keptMode, nil
	}
	mode, err := strconv.ParseInt(text, 8, 32)
	if err != nil {
		return 0, &InputError{Subject: "mode " + text, Err: err}
	}
	return mode, nil
}

// addCopy adds what the step copies. The returned function releases the
// source once the tree has been written.
func (x *stepRun) addCopy(ctx context.Context, view *rootView, tree *layer.Tree, step recipe.Copy) (done func() error, err error) {
	done = func() error { return nil }
	c, err := newCopier(view, tree, step)
	if err != nil {
		return done, err
	}
	switch {
	case step.From != "":
		return x.copyStage(c, step)
	case len(step.Sources) == 1 && isURL(step.Sources[0]):
		return done, x.copyURL(ctx, c, step)
	}
	return done, c.addContext(x.planned.source, x.run.plan.Context, x.run.plan.time())
}

// addContext adds files of the context.
func (c *copier) addContext(src *copySource, context string, modified time.Time) error {
	c.intoDir = c.intoDir || len(src.matches) > 1
	linked := src.linked()
	for i := range src.files {
		f := &src.files[i]
		e, err := src.entry(i, context, c.name(&src.matches[f.match], f.rel))
		if err != nil {
			return err
		}
		e.Header.ModTime = modified
		var id inode
		if first := src.first(i); linked[first] {
			id.ino = uint64(first)
		}
		c.source = f.path
		if err := c.addLinked(e, id); err != nil {
			return err
		}
	}
	return nil
}

func newCopier(image *rootView, tree *layer.Tree, step recipe.Copy) (*copier, error) {
	uid, gid, err := image.fileOwner(step.Owner)
	if err != nil {
		return nil, err
	}
	mode, err := parseMode(step.Mode)
	if err != nil {
		return nil, err
	}
	return &copier{
		tree: tree, image: image, uid: uid, gid: gid, mode: mode, ownsParents: true, to: path.Clean("/" + step.To),
		intoDir: strings.HasSuffix(step.To, "/") || image.isDir(step.To) || len(step.Sources) > 1,
	}, nil
}

// name is where a copied file goes: the content of a directory below the
// destination, a file into it or in its place.
func (c *copier) name(m *match, rel string) string {
	switch {
	case m.isDir():
		return path.Join(c.to, rel)
	case c.intoDir:
		return path.Join(c.to, m.base())
	}
	return c.to
}

// add adds an entry, whose name is the one by which it is copied.
func (c *copier) add(e layer.Entry) error { return c.addLinked(e, inode{}) }

// addLinked adds an entry. A file with the id of an earlier one is the same
// file; the zero id is that of no other.
func (c *copier) addLinked(e layer.Entry, id inode) error {
	e.Header.Uid, e.Header.Gid = c.uid, c.gid
	e.Header.Uname, e.Header.Gname = "", ""
	if c.mode != keptMode {
		e.Header.Mode = modeFor(c.mode, e.Header.FileInfo().Mode())
	}
	if err := c.place(&e.Header); err != nil {
		return err
	}
	err := c.addPlaced(e, id)
	if reserved := (*layer.ReservedError)(nil); errors.As(err, &reserved) {
		err = &InputError{Err: err, Hint: "give the file another name, or leave it out with an ignore file or exclude"}
	}
	return err
}

func (c *copier) addPlaced(e layer.Entry, id inode) error {
	if id == (inode{}) || e.Header.Typeflag != tar.TypeReg {
		return c.tree.Add(e)
	}
	first, ok := c.linked[id]
	if ok && c.tree.Has(e.Header.Name, first.file) {
		return nil // from another source
	}
	if ok && first.source != c.source {
		return c.tree.AddName(e.Header.Name, first.file)
	}
	// What is taken from one path twice becomes two files: how many names a
	// file has where it comes from is the business of its store, or its host.
	file, err := c.tree.AddFile(e)
	if err == nil && !ok {
		if c.linked == nil {
			c.linked = map[inode]linkedFile{}
		}
		c.linked[id] = linkedFile{file, c.source}
	}
	return err
}

// modeFor applies a file's mode; a directory can be entered where it can be read.
func modeFor(mode int64, kind fs.FileMode) int64 {
	switch {
	case kind.IsDir():
		return mode | (mode&0o444)>>2
	case kind&fs.ModeSymlink != 0:
		return 0o777
	}
	return mode
}

// addFile adds a file with the recipe's content.
func addFile(view *rootView, tree *layer.Tree, step recipe.File) error {
	mode := step.Mode
	if mode == "" {
		mode = "0644"
	}
	c, err := newCopier(view, tree, recipe.Copy{To: step.Path, Owner: step.Owner, Mode: mode})
	if err != nil {
		return err
	}
	if c.intoDir {
		return &InputError{Err: fmt.Errorf("%s is a directory", step.Path), Hint: "name the file in it"}
	}
	c.source = "the content"
	return c.add(layer.Entry{Header: regular(c.to, int64(len(step.Content))), Open: layer.Bytes([]byte(step.Content))})
}

// addDirectory adds a directory, unless it is there.
func addDirectory(view *rootView, tree *layer.Tree, name string, uid, gid int) error {
	c := &copier{tree: tree, image: view, uid: uid, gid: gid, mode: keptMode}
	c.source = "the directory"
	at, err := c.directory(path.Clean("/" + name))
	if err != nil {
		return c.refuse(name, err)
	}
	if at.kind == tar.TypeDir {
		return nil
	}
	return c.add(layer.Entry{Header: directory(at.path, 0o755)})
}
