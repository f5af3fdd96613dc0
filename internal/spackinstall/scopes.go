package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// What an environment includes has to be in the builder, and counts for the step's
// key, before Spack runs. So includes are followed here as Spack follows them: an
// entry is a file, or a directory with a file for each section, is relative to what
// includes it, and may be optional or have a condition. What is not in the build
// context (absolute paths, URLs, Git repositories) is left to Spack.

// A place is a path of the build context, and the path below the environment's
// directory in the builder that stands for it.
type place struct{ source, target string }

func (p place) join(rel string) place {
	return place{path.Join(p.source, rel), path.Join(p.target, rel)}
}

// A source is a package of develop, with the directory that has its sources.
type source struct {
	spack.Develop
	place place
}

// A follower follows includes.
type follower struct {
	*Inputs
	c Context
	// top is the environment's directory.
	top place
	// added are the files that come along, parsed those that were followed.
	added  map[place]Files
	parsed map[place]bool
	keys   []string
}

// follow adds what the environment in dir, and the scopes of the recipe, include
// and name, and returns keys of these files.
func (in *Inputs) follow(c Context, dir string, scopes []string) (keys []string, err error) {
	f := &follower{Inputs: in, c: c, top: place{dir, "."}, added: map[place]Files{}, parsed: map[place]bool{}}
	if err := f.scope(in.env, f.top, false); err != nil {
		return nil, err
	}
	for i := range in.scopes {
		at := place{path.Clean(filepath.ToSlash(scopes[i])), in.scopes[i].target}
		if err := f.read(at, in.scopes[i].files, false); err != nil {
			return nil, err
		}
	}
	return f.keys, nil
}

// scope adds what a file of configuration names, whose directory is at. Spack
// decides about what is conditional.
func (f *follower) scope(s *spack.Environment, at place, conditional bool) error {
	for _, r := range s.Repos {
		if to, ok := f.locate(r.Path, at); ok && r.Git == "" {
			if _, err := f.add("repos", r.Path, to); err != nil {
				return err
			}
		}
	}
	var nested []func() error
	for _, i := range s.Include {
		to, ok := f.locate(i.Path, at)
		if !ok || i.Git != "" || i.SHA256 != "" {
			f.unseen = true
			continue
		}
		if i.Optional || i.When != "" {
			if _, err := f.c.ReadFile(to.source); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		files, err := f.add("include", i.Path, to)
		if err != nil {
			return err
		}
		conditional := conditional || i.When != ""
		nested = append(nested, func() error { return f.read(to, files, conditional) })
	}
	f.values(s, at, conditional)
	for _, read := range nested {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// values takes what a file of configuration says, unless one with precedence says
// it already.
func (f *follower) values(s *spack.Environment, at place, conditional bool) {
	for _, dev := range s.Develop {
		to, ok := f.locate(dev.Path, at)
		if ok && !slices.ContainsFunc(f.develop, func(have source) bool { return have.Name == dev.Name }) {
			f.develop = append(f.develop, source{dev, to})
		}
	}
	if conditional && len(s.Mirrors) > 0 {
		f.unseen = true
	}
	for _, m := range s.Mirrors {
		f.onHost(&m.Fetch, at)
		f.onHost(&m.Push, at)
		switch {
		case conditional:
			f.perhaps = append(f.perhaps, m)
		case mirrorIn(f.mirrors, m.Name) == nil:
			f.mirrors = append(f.mirrors, m)
		}
	}
}

// mirrorIn returns the mirror with the name, nil if the list has none.
func mirrorIn(list []spack.Mirror, name string) *spack.Mirror {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// onHost makes the relative path of a mirror one of this host.
func (f *follower) onHost(c *spack.Connection, at place) {
	if to, ok := f.locate(c.URL, at); ok {
		c.URL = filepath.Join(f.c.Dir(), filepath.FromSlash(to.source))
	}
}

// locate returns the place of a path that is written in a file of the directory
// at, and false for absolute paths, URLs and variables.
func (f *follower) locate(name string, at place) (place, bool) {
	for _, prefix := range []string{"$env", "${env}"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && (rest == "" || rest[0] == '/') {
			name, at = "."+rest, f.top
		}
	}
	if name == "" || path.IsAbs(name) || name[0] == '~' || strings.Contains(name, "$") || strings.Contains(name, "://") {
		return place{}, false
	}
	return at.join(name), true
}

// add adds files of the build context.
func (f *follower) add(section, name string, at place) (Files, error) {
	if leaves(at.source) {
		return nil, outside(section, name)
	}
	if files := f.added[at]; files != nil {
		return files, nil
	}
	files, err := f.c.Files(at.source)
	if err != nil {
		return nil, err
	}
	f.added[at] = files
	f.beside = append(f.beside, placed{target: at.target, files: files})
	f.keys = append(f.keys, files.Key())
	return files, nil
}

// read follows an included file or directory. What cannot be read as configuration
// is Spack's to complain about.
func (f *follower) read(at place, files Files, conditional bool) error {
	names, dir := []string{"mirrors.yaml", "upstreams.yaml", "repos.yaml", "develop.yaml", "include.yaml"}, at
	if slices.Equal(files.Names(), []string{"."}) {
		names, dir = []string{path.Base(at.source)}, at.join("..")
	} else {
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(files.Names(), name) })
	}
	for _, name := range names {
		file := dir.join(name)
		if f.parsed[file] || name == spack.LockFileName {
			continue
		}
		f.parsed[file] = true
		var s *spack.Environment
		data, err := f.c.ReadFile(file.source)
		if err == nil {
			s, err = spack.ParseScope(file.source, data)
		}
		if err != nil {
			f.unseen = true
			continue
		}
		f.upstreams = f.upstreams || s.Section("upstreams") != nil
		if err := f.scope(s, dir, conditional); err != nil {
			return err
		}
	}
	return nil
}

// leaves reports whether a relative path leads out of its directory.
func leaves(name string) bool { return name == ".." || strings.HasPrefix(name, "../") }

func outside(section, name string) error {
	return &failure.InputError{
		Subject: section, Err: fmt.Errorf("%s is outside of the build context", name),
		Hint: "build with a context that has it",
	}
}

// askMirrors adds the mirrors of configuration that was not followed: that of Git
// repositories and of the image, and what has a condition. Those that are
// directories of the image are left to Spack.
func (j *Job) askMirrors(ctx context.Context) error {
	if !j.Inputs.unseen {
		return nil // to ask Spack takes seconds
	}
	data, err := j.configuration(ctx, "mirrors")
	if err != nil {
		return err
	}
	merged, err := spack.ParseScope("Spack's mirrors", data)
	if err != nil {
		return &failure.InputError{Subject: "mirrors", Err: err}
	}
	j.mirrors = slices.Clone(j.mirrors)
	for _, m := range merged.Mirrors {
		if mirrorIn(j.mirrors, m.Name) != nil {
			continue
		}
		if known := mirrorIn(j.Inputs.perhaps, m.Name); known != nil {
			j.mirrors = append(j.mirrors, *known)
		} else if m.Binary && strings.Contains(m.Fetch.URL, "://") && !strings.HasPrefix(m.Fetch.URL, "file:") {
			j.mirrors = append(j.mirrors, m)
		}
	}
	_, err = pushedTo(j.Recipe, j.mirrors, false)
	return err
}
