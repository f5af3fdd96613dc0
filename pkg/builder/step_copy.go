package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A copier puts sources into a tree, under the names and with the attributes
// that a copy step gives them.
type copier struct {
	tree *layer.Tree
	// to is the destination; intoDir says that files go below it.
	to       string
	intoDir  bool
	uid, gid int
	mode     int64 // -1 keeps the source's
}

// addCopy adds what the step copies. The returned function releases the
// source once the tree has been written.
func (x *stepRun) addCopy(ctx context.Context, view *rootView, tree *layer.Tree, step recipe.Copy) (done func() error, err error) {
	done = func() error { return nil }
	c, err := newCopier(view, tree, step, x.planned.source)
	if err != nil {
		return done, err
	}
	switch {
	case step.From != "":
		return x.copyStage(c, step)
	case len(step.Sources) == 1 && isURL(step.Sources[0]):
		return done, x.copyURL(ctx, c, step)
	}
	for i := range x.planned.source.files {
		f := &x.planned.source.files[i]
		name := c.name(path.Base(f.path), f.rel, f.match, f.IsDir(), x.planned.source)
		e, err := f.entry(x.run.plan.Context, name)
		if err != nil {
			return done, err
		}
		e.Header.ModTime = x.run.plan.time()
		if err := c.add(e); err != nil {
			return done, err
		}
	}
	return done, nil
}

func newCopier(view *rootView, tree *layer.Tree, step recipe.Copy, source *copySource) (*copier, error) {
	uid, gid, err := view.owner(step.Owner)
	if err != nil {
		return nil, err
	}
	c := &copier{tree: tree, uid: uid, gid: gid, mode: -1}
	if step.Mode != "" {
		if c.mode, err = strconv.ParseInt(step.Mode, 8, 32); err != nil {
			return nil, &InputError{Subject: "mode " + step.Mode, Err: err}
		}
	}
	c.intoDir = strings.HasSuffix(step.To, "/") || view.isDir(step.To) || len(step.Sources) > 1 || source.matches() > 1
	if c.to, err = view.Resolve(step.To); err != nil {
		return nil, err
	}
	return c, nil
}

// matches is how many files and directories the sources stand for.
func (s *copySource) matches() int {
	if len(s.files) == 0 {
		return 0
	}
	return s.files[len(s.files)-1].match + 1
}

// isDirMatch reports whether the n-th match is a directory.
func (s *copySource) isDirMatch(n int) bool {
	for i := range s.files {
		if s.files[i].match == n {
			return s.files[i].IsDir()
		}
	}
	return false
}

// name is where a file of the context goes: the content of a directory goes
// below the destination, a file into it or in its place.
func (c *copier) name(base, rel string, match int, isDir bool, source *copySource) string {
	if isDir || source.isDirMatch(match) {
		return path.Join(c.to, rel)
	}
	return c.fileName(base)
}

func (c *copier) fileName(base string) string {
	if c.intoDir {
		return path.Join(c.to, base)
	}
	return c.to
}

func (c *copier) add(e layer.Entry) error {
	e.Header.Name = strings.TrimPrefix(e.Header.Name, "/")
	e.Header.Uid, e.Header.Gid = c.uid, c.gid
	e.Header.Uname, e.Header.Gname = "", ""
	if c.mode >= 0 {
		e.Header.Mode = modeFor(c.mode, e.Header.FileInfo().Mode())
	}
	err := c.tree.Add(e)
	if reserved := (*layer.ReservedError)(nil); errors.As(err, &reserved) {
		err = &InputError{Err: err, Hint: "give the file another name, or leave it out with an ignore file or exclude"}
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
	copyStep := recipe.Copy{To: step.Path, Owner: step.Owner, Mode: mode}
	c, err := newCopier(view, tree, copyStep, &copySource{})
	if err != nil {
		return err
	}
	if c.intoDir {
		return &InputError{Err: fmt.Errorf("%s is a directory", step.Path), Hint: "name the file in it"}
	}
	return c.add(layer.Entry{Header: regular(c.to, int64(len(step.Content))), Open: layer.Bytes([]byte(step.Content))})
}

// addDirectory adds a directory, unless it is there.
func addDirectory(view *rootView, tree *layer.Tree, name string, uid, gid int) error {
	if view.isDir(name) {
		return nil
	}
	to, err := view.Resolve(name)
	if err != nil {
		return err
	}
	if _, err := view.header(to); err == nil {
		return &InputError{Err: fmt.Errorf("%s is not a directory", name), Hint: "choose another directory"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := &copier{tree: tree, uid: uid, gid: gid, mode: -1}
	return c.add(layer.Entry{Header: directory(to, 0o755)})
}
