package builder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A selection finds what the sources of a copy step stand for, in the context
// and in stages alike.
type selection struct {
	root *rootfs.Root
	// exclude are the patterns of the step.
	exclude []string
	// ignore are those of the context; nil has none.
	ignore *patterns
}

// A match is a file or directory that a source stands for.
type match struct {
	// name is the path by which it was found, real the one in which no part is
	// a link: what a source names is copied, not the link to it.
	name, real string
	kind       fs.FileMode
	// exclude leaves out files by their paths in the root.
	exclude *patterns
	// source tells what a recipe has asked for from directories of our own.
	source bool
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
	errIgnored  = errors.New("it is ignored by .containerignore or .dockerignore")
	errExcluded = errors.New("exclude leaves it out")
	errNoMatch  = errors.New("no file matches (or all are ignored or excluded)")
)

// find returns what source stands for, at least one.
func (s *selection) find(source string) ([]match, error) {
	clean := path.Clean("/" + source)
	if !rootfs.HasMeta(clean) {
		m, err := s.at(clean)
		if err == nil {
			m.exclude, err = newPatterns(append(below("/", s.exclude), below(m.real, s.exclude)...))
		}
		if err == nil {
			err = s.hides(&m)
		}
		if err == nil {
			err = m.copyable()
		}
		m.source = true
		return []match{m}, err
	}
	names, err := s.root.Glob(clean)
	if err != nil {
		return nil, err
	}
	patterns, err := s.excludeOf(clean)
	if err != nil {
		return nil, err
	}
	var found []match
	for _, name := range names {
		m, wrong := s.at(name)
		if wrong != nil {
			m = match{name: name, real: name} // counts unless something hides it
		}
		if m.exclude, err = patterns(&m); err != nil {
			return nil, err
		}
		err := s.hides(&m)
		if errors.Is(err, errIgnored) || errors.Is(err, errExcluded) {
			continue
		}
		if err := cmp.Or(err, wrong, m.copyable()); err != nil {
			return nil, err
		}
		m.source = true
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, errNoMatch
	}
	return found, nil
}

// excludeOf returns the patterns for what a pattern finds: they are about paths
// in the root, below the directory in which the wildcard is, and below each
// directory that is found.
func (s *selection) excludeOf(pattern string) (func(*match) (*patterns, error), error) {
	dir := pattern
	for rootfs.HasMeta(dir) {
		dir = path.Dir(dir)
	}
	real, err := s.root.Resolve(dir)
	if err != nil {
		return nil, err
	}
	list := append(below("/", s.exclude), below(real, s.exclude)...)
	ofFiles, err := newPatterns(list)
	return func(m *match) (*patterns, error) {
		if !m.isDir() {
			return ofFiles, nil
		}
		return newPatterns(append(slices.Clip(list), below(m.real, s.exclude)...))
	}, err
}

// below returns patterns for the paths in the root of what they mean in a
// directory.
func below(dir string, list []string) []string {
	dir = strings.TrimPrefix(dir, "/")
	full := make([]string, len(list))
	for i, p := range list {
		p, negative := strings.CutPrefix(p, "!")
		p = strings.TrimPrefix(path.Join(rootfs.QuoteMeta(dir), p), "/")
		if negative {
			p = "!" + p
		}
		full[i] = p
	}
	return full
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

// within returns a directory to which the patterns of exclude refer.
func (s *selection) within(name string) (match, error) {
	m, err := s.at(name)
	if err == nil {
		m.exclude, err = newPatterns(below(m.real, s.exclude))
	}
	return m, err
}

// hides is errIgnored or errExcluded where nothing of m is copied.
func (s *selection) hides(m *match) error {
	linkIgnored, err := s.ignores(m.name)
	ignored, err2 := s.ignores(m.real)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if linkIgnored && m.name != m.real || ignored && (!m.isDir() || !s.ignore.reinclude()) {
		return errIgnored
	}
	linkExcluded, err := m.excludes(m.name)
	excluded, err2 := m.excludes(m.real)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if (linkExcluded || excluded) && (!m.isDir() || !m.exclude.reinclude()) {
		return errExcluded
	}
	return nil
}

// ignores reports whether the ignore file leaves out a file of the context.
func (s *selection) ignores(name string) (bool, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return false, nil // the whole context cannot be ignored
	}
	return s.ignore.match(name)
}

// excludes reports whether the step leaves out a file.
func (m *match) excludes(name string) (bool, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return false, nil
	}
	return m.exclude.match(name)
}

// walk calls fn for m and all below it that is copied, with its path below m,
// which is "." for m itself. It is an error if that leaves nothing of a
// directory that a source stands for, but the context is never ignored.
func (s *selection) walk(m *match, fn func(f *rootfs.File, rel string) error) error {
	pending := m.isDir() // fn has not been called for the directory
	var leftOut error    // the reason
	err := s.root.Walk(m.real, func(f *rootfs.File) error {
		reason, err := s.leavesOut(m, f.Name)
		if err != nil {
			return err
		}
		if reason != nil {
			leftOut = reason
			// A later "!pattern" may bring a file below back.
			if f.Info.IsDir() && !s.ignore.reinclude() && !m.exclude.reinclude() {
				return fs.SkipDir
			}
			return nil
		}
		if f.Name == m.real {
			if pending {
				return nil
			}
			return fn(f, ".")
		}
		if pending {
			pending = false
			if err := s.itself(m, fn); err != nil {
				return err
			}
		}
		return fn(f, strings.TrimPrefix(f.Name, strings.TrimSuffix(m.real, "/")+"/"))
	})
	if err != nil || !pending {
		return err
	}
	if leftOut != nil && m.source && m.real != "/" {
		return leftOut
	}
	return s.itself(m, fn)
}

// leavesOut returns why a file is not copied, nil if it is.
func (s *selection) leavesOut(m *match, name string) (reason, err error) {
	ignored, err := s.ignores(name)
	if err != nil || ignored {
		return errIgnored, err
	}
	excluded, err := m.excludes(name)
	if err != nil || excluded {
		return errExcluded, err
	}
	return nil, nil
}

// itself calls fn for m itself.
func (s *selection) itself(m *match, fn func(f *rootfs.File, rel string) error) error {
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
