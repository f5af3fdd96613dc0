package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/fileentry"
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
	linked map[fileentry.Inode]linkedFile
	// dirs are the places of directories, by their names.
	dirs map[string]place
}

// A linkedFile is a file of the tree and the path from which it was taken.
type linkedFile struct {
	file   layer.Inode
	source string
}

// copySource identifies what step copies.
func (p *Plan) copySource(step recipe.Copy, states map[string]state) (*buildcontext.Source, error) {
	if step.From != "" {
		return &buildcontext.Source{Key: extend(states[step.From].key, step.Sources...)}, nil
	}
	if len(step.Sources) == 1 && buildcontext.IsURL(step.Sources[0]) {
		return &buildcontext.Source{Key: keyOf("url", step.Sources[0], step.Checksum)}, nil
	}
	return buildcontext.Read(buildcontext.Options{Dir: p.Context, Mode: step.Mode, Exclude: step.Exclude, Known: p.contents}, step.Sources)
}

// sameContext ensures that a step copies what the context had when the build
// was planned: an image of two states of it would match neither.
func sameContext(before, now PlannedStep) error {
	step, ok := now.step.(recipe.Copy)
	if !ok || step.From != "" || before.source == nil || before.source.Key == now.source.Key {
		return nil
	}
	return &InputError{Subject: "copy " + strings.Join(step.Sources, " "), Err: errors.New("files have changed since the build was planned"), Hint: buildcontext.ChangingHint}
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
	case len(step.Sources) == 1 && buildcontext.IsURL(step.Sources[0]):
		return done, x.copyURL(ctx, c, step)
	}
	return done, c.addContext(x.planned.source, x.run.plan.Context, x.run.plan.time())
}

// addContext adds files of the context.
func (c *copier) addContext(src *buildcontext.Source, context string, modified time.Time) error {
	c.intoDir = c.intoDir || len(src.Matches) > 1
	linked := src.Linked()
	for i := range src.Files {
		f := &src.Files[i]
		e, err := src.Entry(i, context, c.name(&src.Matches[f.Match], f.Rel))
		if err != nil {
			return err
		}
		e.Header.ModTime = modified
		var id fileentry.Inode
		if first := src.First(i); linked[first] {
			id.Ino = uint64(first)
		}
		c.source = f.Path
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
	mode, err := buildcontext.ParseMode(step.Mode)
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
func (c *copier) name(m *buildcontext.Match, rel string) string {
	switch {
	case m.IsDir():
		return path.Join(c.to, rel)
	case c.intoDir:
		return path.Join(c.to, m.Base())
	}
	return c.to
}

// add adds an entry, whose name is the one by which it is copied.
func (c *copier) add(e layer.Entry) error { return c.addLinked(e, fileentry.Inode{}) }

// addLinked adds an entry. A file with the id of an earlier one is the same
// file; the zero id is that of no other.
func (c *copier) addLinked(e layer.Entry, id fileentry.Inode) error {
	e.Header.Uid, e.Header.Gid = c.uid, c.gid
	e.Header.Uname, e.Header.Gname = "", ""
	if c.mode != buildcontext.KeptMode {
		e.Header.Mode = buildcontext.ModeFor(c.mode, e.Header.FileInfo().Mode())
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

func (c *copier) addPlaced(e layer.Entry, id fileentry.Inode) error {
	if id == (fileentry.Inode{}) || e.Header.Typeflag != tar.TypeReg {
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
			c.linked = map[fileentry.Inode]linkedFile{}
		}
		c.linked[id] = linkedFile{file, c.source}
	}
	return err
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
	c := &copier{tree: tree, image: view, uid: uid, gid: gid, mode: buildcontext.KeptMode}
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
