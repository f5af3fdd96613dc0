package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A selection finds what the sources of a copy step stand for, in the context
// and in stages alike.
type selection struct {
	root *rootfs.Root
	// exclude is the step's, ignore the context's; nil has no patterns.
	exclude, ignore *patterns
}

// A match is a file or directory that a source stands for.
type match struct {
	// name is the path by which it was found, real the one in which no part is
	// a link: what a source names is copied, not the link to it.
	name, real string
	// below is the path of what a wildcard has found, from the directory on in
	// which the wildcard is; "" for what has been named.
	below string
	kind  fs.FileMode
}

func (m *match) isDir() bool { return m.kind.IsDir() }

// base is the name that a copied file gets.
func (m *match) base() string {
	if m.name == "/" {
		return "."
	}
	return path.Base(m.name)
}

// copyable is an error where m is something that ends with a process.
func (m *match) copyable() error {
	if m.kind&(fs.ModeSocket|fs.ModeIrregular) == 0 {
		return nil
	}
	return fmt.Errorf("%s is neither a file nor a directory but %s", m.name, m.kind)
}

var (
	errIgnored = errors.New("it is ignored by .containerignore or .dockerignore")
	errNoMatch = errors.New("no file matches (or all are ignored or excluded)")
)

// find returns what source stands for, at least one.
func (s *selection) find(source string) ([]match, error) {
	clean := path.Clean("/" + source)
	if !rootfs.HasMeta(clean) {
		m, err := s.at(clean)
		if err != nil {
			return nil, err
		}
		hidden, err := s.hides(&m)
		if err == nil && hidden {
			err = errIgnored
		}
		return []match{m}, errors.Join(err, m.copyable())
	}
	names, err := s.root.Glob(clean)
	if err != nil {
		return nil, err
	}
	var found []match
	for _, name := range names {
		m, err := s.at(name)
		if err != nil {
			// A link that leads nowhere counts as long as nothing hides it.
			link := match{name: name, real: name, below: s.belowWildcard(clean, name)}
			if hidden, hideErr := s.hides(&link); hideErr == nil && hidden {
				continue
			}
			return nil, err
		}
		m.below = s.belowWildcard(clean, name)
		hidden, err := s.hides(&m)
		if err != nil {
			return nil, err
		}
		if hidden {
			continue
		}
		if err := m.copyable(); err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, errNoMatch
	}
	return found, nil
}

// at follows the links of a name.
func (s *selection) at(name string) (match, error) {
	real, err := s.root.Resolve(name)
	if err != nil {
		return match{}, err
	}
	info, err := s.root.LstatExact(real)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err := s.root.File(name); err == nil && real != f.Name {
			defer f.Close()
			return match{}, fmt.Errorf("%s is a link to %s, which does not exist", f.Name, real)
		}
	}
	if err != nil {
		return match{}, err
	}
	return match{name: name, real: real, kind: info.Mode().Type()}, nil
}

// belowWildcard is the path of what pattern has found, from the directory on in
// which the wildcard is. What a link has led elsewhere has its name alone.
func (s *selection) belowWildcard(pattern, name string) string {
	dir := pattern
	for rootfs.HasMeta(dir) {
		dir = path.Dir(dir)
	}
	if real, err := s.root.Resolve(dir); err == nil {
		if below, ok := strings.CutPrefix(name, strings.TrimSuffix(real, "/")+"/"); ok {
			return below
		}
	}
	return path.Base(name)
}

// hides reports whether nothing of m is copied.
func (s *selection) hides(m *match) (bool, error) {
	if linkIgnored, err := s.ignores(m.name); err != nil || linkIgnored && m.name != m.real {
		return true, err
	}
	ignored, err := s.ignores(m.real)
	if err != nil || ignored && !(m.isDir() && s.ignore.reinclude()) {
		return true, err
	}
	excluded, err := s.excludes(m, ".")
	return err != nil || excluded && !(m.isDir() && s.exclude.reinclude()), err
}

// ignores reports whether the ignore file leaves out a file of the context.
func (s *selection) ignores(name string) (bool, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return false, nil // the whole context cannot be ignored
	}
	return s.ignore.match(name)
}

// excludes reports whether the step leaves out the file whose path below m is
// rel. Patterns are about paths below what a source stands for; they are about
// what a wildcard has found, too.
func (s *selection) excludes(m *match, rel string) (excluded bool, err error) {
	if rel != "." {
		excluded, err = s.exclude.match(rel)
	}
	if err == nil && !excluded && m.below != "" {
		excluded, err = s.exclude.match(path.Join(m.below, rel))
	}
	return excluded, err
}

// walk calls fn for m and all below it that is copied, with its path below m,
// which is "." for m itself.
func (s *selection) walk(m *match, fn func(f *rootfs.File, rel string) error) error {
	top := func() error { return nil }
	return s.root.Walk(m.real, func(f *rootfs.File) error {
		rel := "."
		if f.Name != m.real {
			rel = strings.TrimPrefix(f.Name, strings.TrimSuffix(m.real, "/")+"/")
		}
		leftOut, err := s.ignores(f.Name)
		if err == nil && !leftOut {
			leftOut, err = s.excludes(m, rel)
		}
		switch {
		case err != nil:
			return err
		case !leftOut:
			err = top()
			top = func() error { return nil }
			return errors.Join(err, fn(f, rel))
		// A later "!pattern" may bring a file below back.
		case f.Info.IsDir() && !s.ignore.reinclude() && !s.exclude.reinclude():
			return fs.SkipDir
		case rel == ".":
			top = func() error { return s.again(m, fn) }
		}
		return nil
	})
}

// again calls fn for m itself, below which something has been brought back.
func (s *selection) again(m *match, fn func(f *rootfs.File, rel string) error) error {
	f, err := s.root.FileExact(m.real)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(f, ".")
}

// patterns are those of an ignore file or of an exclude list.
type patterns struct {
	list *patternmatcher.PatternMatcher
}

func newPatterns(list []string) (*patterns, error) {
	matchable := make([]string, len(list))
	for i, p := range list {
		matchable[i] = matchableName(p)
	}
	m, err := patternmatcher.New(matchable)
	if err != nil {
		return nil, err
	}
	return &patterns{m}, nil
}

// match reports whether the patterns leave out a file, or a directory above it.
func (p *patterns) match(name string) (bool, error) {
	if p == nil {
		return false, nil
	}
	return p.list.MatchesOrParentMatches(matchableName(name))
}

// reinclude reports whether a pattern brings back what another one leaves out.
func (p *patterns) reinclude() bool { return p != nil && p.list.Exclusions() }

// matchableName puts other characters in the place of those with which the
// library has trouble: its "**" stops at a line break, and bytes that are no
// UTF-8 are all the same to it, or a message on standard error.
func matchableName(name string) string {
	const privateUse = 0x10ff00
	if utf8.ValidString(name) && !strings.Contains(name, "\n") {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		if r == '\n' || r == utf8.RuneError && n == 1 {
			r = privateUse + rune(name[0])
		}
		b.WriteRune(r)
		name = name[n:]
	}
	return b.String()
}
