package buildcontext

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

// A Selection finds what the sources of a copy step stand for, in the context
// and in stages alike.
type Selection struct {
	Root *rootfs.Root
	// Exclude are the patterns of the step.
	Exclude []string
	// ignore are those of the context; nil has none.
	ignore *patterns
}

// A Match is a file or directory that a source stands for.
type Match struct {
	// Name is the path by which it was found, real the one in which no part is
	// a link: what a source names is copied, not the link to it.
	Name, real string
	kind       fs.FileMode
	// exclude leaves out files by their paths in the root.
	exclude *patterns
	// source is set for what a recipe names, not for directories of our own.
	source bool
}

// IsDir reports whether it is a directory.
func (m *Match) IsDir() bool { return m.kind.IsDir() }

// Base is the name that a copied file gets.
func (m *Match) Base() string {
	if m.Name == "/" {
		return "."
	}
	return path.Base(m.Name)
}

// copyable is an error where m is something that ends with a process.
func (m *Match) copyable() error {
	if m.kind&(fs.ModeSocket|fs.ModeIrregular) == 0 {
		return nil
	}
	return fmt.Errorf("%s is neither a file nor a directory but %s", m.Name, m.kind)
}

// Reasons why nothing is copied.
var (
	errIgnored = errors.New("it is ignored by .containerignore or .dockerignore")
	// ErrExcluded is returned where the step excludes what it names.
	ErrExcluded = errors.New("exclude leaves it out")
	// ErrNoMatch is returned where a pattern finds nothing.
	ErrNoMatch = errors.New("no file matches (or all are ignored or excluded)")
)

// Find returns what source stands for, at least one.
func (s *Selection) Find(source string) ([]Match, error) {
	clean := path.Clean("/" + source)
	if !rootfs.HasMeta(clean) {
		m, err := s.at(clean)
		if err == nil {
			m.exclude, err = newPatterns(append(below("/", s.Exclude), below(m.real, s.Exclude)...))
		}
		if err == nil {
			err = s.hides(&m)
		}
		if err == nil {
			err = m.copyable()
		}
		m.source = true
		return []Match{m}, err
	}
	names, err := s.Root.Glob(clean)
	if err != nil {
		return nil, err
	}
	patterns, err := s.excludeOf(clean)
	if err != nil {
		return nil, err
	}
	var found []Match
	for _, name := range names {
		m, wrong := s.at(name)
		if wrong != nil {
			m = Match{Name: name, real: name} // counts unless something hides it
		}
		if m.exclude, err = patterns(&m); err != nil {
			return nil, err
		}
		err := s.hides(&m)
		if errors.Is(err, errIgnored) || errors.Is(err, ErrExcluded) {
			continue
		}
		if err := cmp.Or(err, wrong, m.copyable()); err != nil {
			return nil, err
		}
		m.source = true
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, ErrNoMatch
	}
	return found, nil
}

// excludeOf returns the patterns for what a pattern finds: they are about paths
// in the root, below the directory in which the wildcard is, and below each
// directory that is found.
func (s *Selection) excludeOf(pattern string) (func(*Match) (*patterns, error), error) {
	dir := pattern
	for rootfs.HasMeta(dir) {
		dir = path.Dir(dir)
	}
	real, err := s.Root.Resolve(dir)
	if err != nil {
		return nil, err
	}
	list := append(below("/", s.Exclude), below(real, s.Exclude)...)
	ofFiles, err := newPatterns(list)
	return func(m *Match) (*patterns, error) {
		if !m.IsDir() {
			return ofFiles, nil
		}
		return newPatterns(append(slices.Clip(list), below(m.real, s.Exclude)...))
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
func (s *Selection) at(name string) (Match, error) {
	real, err := s.Root.Resolve(name)
	if err != nil {
		return Match{}, err
	}
	info, err := s.Root.LstatExact(real)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err := s.Root.File(name); err == nil && real != f.Name {
			defer f.Close()
			return Match{}, fmt.Errorf("%s is a link to %s, which does not exist", f.Name, real)
		}
	}
	if err != nil {
		return Match{}, err
	}
	return Match{Name: name, real: real, kind: info.Mode().Type()}, nil
}

// Within returns a directory to which the patterns of exclude refer.
func (s *Selection) Within(name string) (Match, error) {
	m, err := s.at(name)
	if err == nil {
		m.exclude, err = newPatterns(below(m.real, s.Exclude))
	}
	return m, err
}

// hides is errIgnored or ErrExcluded where nothing of m is copied.
func (s *Selection) hides(m *Match) error {
	linkIgnored, err := s.ignores(m.Name)
	ignored, err2 := s.ignores(m.real)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if linkIgnored && m.Name != m.real || ignored && (!m.IsDir() || !s.ignore.reinclude()) {
		return errIgnored
	}
	linkExcluded, err := m.excludes(m.Name)
	excluded, err2 := m.excludes(m.real)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if (linkExcluded || excluded) && (!m.IsDir() || !m.exclude.reinclude()) {
		return ErrExcluded
	}
	return nil
}

// ignores reports whether the ignore file leaves out a file of the context.
func (s *Selection) ignores(name string) (bool, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return false, nil // the whole context cannot be ignored
	}
	return s.ignore.match(name)
}

// excludes reports whether the step leaves out a file.
func (m *Match) excludes(name string) (bool, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return false, nil
	}
	return m.exclude.match(name)
}

// Walk calls fn for m and all below it that is copied, with its path below m,
// which is "." for m itself. It is an error if that leaves nothing of a
// directory that a source stands for, but the context is never ignored.
func (s *Selection) Walk(m *Match, fn func(f *rootfs.File, rel string) error) error {
	pending := m.IsDir() // fn has not been called for the directory
	var leftOut error    // the reason
	err := s.Root.Walk(m.real, func(f *rootfs.File) error {
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
func (s *Selection) leavesOut(m *Match, name string) (reason, err error) {
	ignored, err := s.ignores(name)
	if err != nil || ignored {
		return errIgnored, err
	}
	excluded, err := m.excludes(name)
	if err != nil || excluded {
		return ErrExcluded, err
	}
	return nil, nil
}

// itself calls fn for m itself.
func (s *Selection) itself(m *Match, fn func(f *rootfs.File, rel string) error) error {
	f, err := s.Root.FileExact(m.real)
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

// matchableName replaces characters that the library does not handle: its "**"
// stops at a line break, and it treats all bytes that are not UTF-8 as equal, or
// writes a message to standard error.
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
