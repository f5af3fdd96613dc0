package builder

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

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
	s := &stageCopier{copier: c, view: &rootView{Root: wk.root}}
	if s.files, err = newLayerFiles(x.run.b.store, from.layer); err != nil {
		return wk.release, err
	}
	defer s.files.close()
	if s.exclude, err = patternmatcher.New(step.Exclude); err != nil {
		return wk.release, &InputError{Subject: "exclude", Err: err}
	}
	for _, source := range step.Sources {
		if err := s.copy(source); err != nil {
			return wk.release, err
		}
	}
	return wk.release, nil
}

// A stageCopier walks through a mounted stage.
type stageCopier struct {
	*copier
	view    *rootView
	exclude *patternmatcher.PatternMatcher
	links   hardLinks
	// files finds the layer that a file comes from.
	files *layerFiles
	// drop leaves a file out; nil leaves out none.
	drop func(*rootfs.File) bool
	// adjust changes an entry before it is added; nil changes none.
	adjust func(*layer.Entry)
}

func (s *stageCopier) copy(source string) error {
	found, err := s.glob(source)
	if err != nil {
		return err
	}
	s.intoDir = s.intoDir || len(found) > 1
	for _, f := range found {
		if err := s.walk(f); err != nil {
			return err
		}
	}
	return nil
}

// glob returns paths in the stage of which at most the last part is a link.
func (s *stageCopier) glob(source string) ([]string, error) {
	clean := path.Clean("/" + source)
	if !rootfs.HasMeta(clean) {
		real, err := s.view.Resolve(clean)
		if err != nil {
			return nil, err
		}
		if _, err := s.view.LstatExact(real); err != nil {
			return nil, &InputError{Err: fmt.Errorf("%s is not in the stage: %w", source, fs.ErrNotExist), Hint: "look at what the stage's last steps have made"}
		}
		return []string{real}, nil
	}
	found, err := s.view.Glob(clean)
	if err != nil || len(found) == 0 {
		return nil, &InputError{Err: fmt.Errorf("nothing in the stage matches %s", source), Hint: "look at what the stage's last steps have made"}
	}
	return found, nil
}

func (s *stageCopier) walk(match string) error {
	return walkIncluded(s.view, match, s.exclude, func(f *rootfs.File, rel string) error {
		if rel == "" && !f.Info.IsDir() {
			return s.addFile(f, s.fileName(path.Base(match)))
		}
		return s.addFile(f, path.Join(s.to, rel))
	})
}

// walkIncluded calls fn for match, and for all below it that is not excluded
// with its path below match.
func walkIncluded(view *rootView, match string, exclude *patternmatcher.PatternMatcher, fn func(f *rootfs.File, rel string) error) error {
	top := ""
	return view.Walk(match, func(f *rootfs.File) error {
		if top == "" {
			top = f.Name
			return fn(f, "")
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(f.Name, top), "/")
		excluded, err := exclude.MatchesOrParentMatches(rel)
		if err != nil {
			return err
		}
		if excluded && f.Info.IsDir() && !exclude.Exclusions() {
			return fs.SkipDir
		}
		if excluded {
			return nil
		}
		return fn(f, rel)
	})
}

// addFile adds one file with its attributes; sockets are left out.
func (s *stageCopier) addFile(f *rootfs.File, name string) error {
	if f.Info.Mode()&fs.ModeSocket != 0 || s.drop != nil && s.drop(f) {
		return nil
	}
	n, origin := 0, ""
	if f.Info.Mode().IsRegular() {
		n, origin = s.files.file(f.Name, f.Info)
	}
	e, err := layeredEntry(f, name, n, &s.links)
	if err != nil {
		return err
	}
	delete(e.Header.PAXRecords, "SCHILY.xattr."+layer.OwnerXattr)
	if origin != "" {
		e.Open, e.Origin = nil, layer.Origin{Dir: origin, Name: f.Name}
	}
	if s.adjust != nil {
		s.adjust(&e)
	}
	return s.add(e)
}
