package builder

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// copyStage adds files of a finished stage. Its root stays mounted until the
// returned function is called, because files are read when the layer is written.
func (x *stepRun) copyStage(c *copier, step recipe.Copy) (done func() error, err error) {
	from := x.run.finished()[step.From]
	wk, err := x.run.b.works.create(from.layer)
	if err != nil {
		return func() error { return nil }, err
	}
	s := &stageCopier{copier: c}
	if s.files, err = newLayerFiles(x.run.b.store, from.layer); err != nil {
		return wk.release, err
	}
	done = func() error {
		s.files.close()
		return wk.release()
	}
	s.Selection = buildcontext.Selection{Root: wk.root, Exclude: step.Exclude}
	for _, source := range step.Sources {
		if err := s.copy(source); err != nil {
			return done, err
		}
	}
	return done, nil
}

// A stageCopier walks through a mounted stage.
type stageCopier struct {
	*copier
	buildcontext.Selection
	// files finds the layer that a file comes from.
	files *layerFiles
	// drop leaves a file out; nil leaves out none.
	drop func(*rootfs.File) bool
	// adjust changes an entry before it is added; nil changes none.
	adjust func(*layer.Entry)
}

func (s *stageCopier) copy(source string) error {
	found, err := s.Find(source)
	if err != nil {
		return stageError(source, err)
	}
	s.intoDir = s.intoDir || len(found) > 1
	var nothing error
	copied := 0
	for i := range found {
		err := s.copyMatch(&found[i])
		if errors.Is(err, buildcontext.ErrExcluded) {
			nothing = err
			continue
		}
		if err != nil {
			return err
		}
		copied++
	}
	if copied == 0 {
		return stageError(source, nothing)
	}
	return nil
}

func (s *stageCopier) copyMatch(m *buildcontext.Match) error {
	return s.Walk(m, func(f *rootfs.File, rel string) error { return s.addFile(f, s.name(m, rel)) })
}

// stageError explains why a source stands for nothing.
func stageError(source string, err error) error {
	hint := "look at what the stage's last steps have made"
	switch {
	case imagestore.IsDiskError(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return &InputError{Err: fmt.Errorf("%s is not in the stage: %w", source, fs.ErrNotExist), Hint: hint}
	case errors.Is(err, buildcontext.ErrExcluded):
		hint = "change exclude, or do not copy it"
	case errors.Is(err, buildcontext.ErrNoMatch):
		return &InputError{Err: fmt.Errorf("nothing in the stage matches %s", source), Hint: hint}
	}
	return &InputError{Err: fmt.Errorf("%s in the stage: %w", source, err), Hint: hint}
}

// copyDirectory copies what is in a directory of the stage.
func (s *stageCopier) copyDirectory(name string) error {
	m, err := s.Within(name)
	if err != nil {
		return err
	}
	return s.copyMatch(&m)
}

// addFile adds one file with its attributes; sockets are left out.
func (s *stageCopier) addFile(f *rootfs.File, name string) error {
	if f.Info.Mode()&fs.ModeSocket != 0 || s.drop != nil && s.drop(f) {
		return nil
	}
	n, origin := 0, (*rootfs.Root)(nil)
	if f.Info.Mode().IsRegular() {
		n, origin = s.files.file(f.Name, f.Info)
	}
	e, err := fileentry.Unlinked(f, name)
	if err != nil {
		return err
	}
	var id fileentry.Inode
	if fileentry.HasLinks(f.Info) {
		id = fileentry.InodeOf(f.Info)
		id.Layer = n
	}
	delete(e.Header.PAXRecords, "SCHILY.xattr."+layer.OwnerXattr)
	if origin != nil {
		e.Open, e.Origin = nil, layer.Origin{Root: origin, Name: f.Name}
	}
	if s.adjust != nil {
		s.adjust(&e)
	}
	s.source = f.Name
	return s.addLinked(e, id)
}
