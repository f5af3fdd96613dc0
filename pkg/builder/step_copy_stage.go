package builder

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
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
	s := &stageCopier{copier: c, view: &rootView{root: wk.root}}
	if s.files, err = newLayerFiles(x.run.b.store, from.layer); err != nil {
		return wk.release, err
	}
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
	drop func(full string, info fs.FileInfo) bool
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

// glob returns real paths in the stage. Only the last links of a path are
// patterns' business; what leads there is resolved inside the stage.
func (s *stageCopier) glob(source string) ([]string, error) {
	clean := path.Clean("/" + source)
	if !strings.ContainsAny(clean, `*?[\`) {
		real, err := s.view.resolve(clean)
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(filepath.Join(s.view.root, real)); err != nil {
			return nil, &InputError{Err: fmt.Errorf("%s is not in the stage: %w", source, fs.ErrNotExist), Hint: "look at what the stage's last steps have made"}
		}
		return []string{real}, nil
	}
	dir := clean
	for strings.ContainsAny(dir, `*?[\`) {
		dir = path.Dir(dir)
	}
	real, err := s.view.resolve(dir)
	if err != nil {
		return nil, err
	}
	pattern := filepath.Join(s.view.root, real, strings.TrimPrefix(clean, dir))
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return nil, &InputError{Err: fmt.Errorf("nothing in the stage matches %s", source), Hint: "look at what the stage's last steps have made"}
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], s.view.root)
	}
	return found, nil
}

func (s *stageCopier) walk(match string) error {
	top := filepath.Join(s.view.root, match)
	info, err := os.Lstat(top)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return s.addFile(top, s.fileName(path.Base(match)), info)
	}
	return filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, top), "/")
		if rel != "" {
			excluded, err := s.exclude.MatchesOrParentMatches(rel)
			if err != nil {
				return err
			}
			if excluded && d.IsDir() && !s.exclude.Exclusions() {
				return fs.SkipDir
			}
			if excluded {
				return nil
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return s.addFile(name, path.Join(s.to, rel), info)
	})
}

// addFile adds one file with its attributes; sockets are left out.
func (s *stageCopier) addFile(full, name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket != 0 || s.drop != nil && s.drop(full, info) {
		return nil
	}
	// A clone, or each name would keep the whole path in memory.
	at := hostFile{s.view.root, strings.Clone(strings.TrimPrefix(full, s.view.root))}
	n, origin := 0, ""
	if info.Mode().IsRegular() {
		n, origin = s.files.file(at.name, info)
	}
	e, err := layeredEntry(at, name, info, n, &s.links)
	if err != nil {
		return err
	}
	delete(e.Header.PAXRecords, "SCHILY.xattr."+layer.OwnerXattr)
	if origin != "" {
		e.Open, e.Origin = nil, layer.Origin{Dir: origin, Name: at.name}
	}
	return s.add(e)
}
