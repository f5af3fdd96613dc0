package buildcache

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// A Filter chooses packages; the zero value chooses all. ParseFilter reads one
// from text.
type Filter struct {
	Name    string
	Version string // also chooses VERSION.anything, as in Spack
	Exact   bool   // chooses Version alone
	Hash    string // or its start
	// Compiler is NAME or NAME@VERSION.
	Compiler string
	// Platform, OS and Target may hold the wildcards of path.Match.
	Platform, OS, Target string
}

// ParseFilter reads a simple form of Spack's specs: name, name@version,
// name@=version, /hash, %compiler, platform=…, os=…, target=… and
// arch=PLATFORM-OS-TARGET, with spaces between. It has no ranges of versions
// and no variants.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	for _, term := range strings.Fields(text) {
		if err := f.add(term); err != nil {
			return Filter{}, fmt.Errorf("filter %q: %w", text, err)
		}
	}
	return f, nil
}

func (f *Filter) add(term string) error {
	if key, value, ok := strings.Cut(term, "="); ok && !strings.ContainsAny(key, "@/%") {
		return f.addArch(key, value)
	}
	if i := strings.IndexByte(term, '%'); i >= 0 {
		f.Compiler, term = term[i+1:], term[:i]
		if f.Compiler == "" {
			return errors.New("% is followed by a compiler")
		}
	}
	if i := strings.IndexByte(term, '/'); i >= 0 {
		f.Hash, term = term[i+1:], term[:i]
		if f.Hash == "" || strings.Trim(f.Hash, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			return fmt.Errorf("/%s is no hash: it has letters and the digits 2 to 7", f.Hash)
		}
	}
	if name, version, ok := strings.Cut(term, "@"); ok {
		version, f.Exact = strings.CutPrefix(version, "=")
		if version == "" || strings.ContainsAny(version, ":,") {
			return fmt.Errorf("@%s is not one version", version)
		}
		f.Version, term = version, name
	}
	if term == "" {
		return nil
	}
	if !nameRE.MatchString(term) {
		return fmt.Errorf("%q is no package name; variants and dependencies can't be asked for", term)
	}
	f.Name = term
	return nil
}

func (f *Filter) addArch(key, value string) error {
	switch key {
	case "platform":
		f.Platform = value
	case "os":
		f.OS = value
	case "target":
		f.Target = value
	case "arch":
		parts := strings.SplitN(value, "-", 3)
		if len(parts) != 3 {
			return fmt.Errorf("arch=%s is not PLATFORM-OS-TARGET", value)
		}
		f.Platform, f.OS, f.Target = parts[0], parts[1], parts[2]
	default:
		return fmt.Errorf("%s= is none of platform=, os=, target=, arch=", key)
	}
	for _, pattern := range []string{f.Platform, f.OS, f.Target} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%q: %w", pattern, err)
		}
	}
	return nil
}

// Match says whether the filter chooses s.
func (f Filter) Match(s *Spec) bool {
	return (f.Name == "" || f.Name == s.Name) &&
		matchVersion(f.Version, s.Version, f.Exact) &&
		strings.HasPrefix(s.Hash, f.Hash) && f.matchCompiler(s.Compiler) &&
		matchPattern(f.Platform, s.Platform) && matchPattern(f.OS, s.OS) && matchPattern(f.Target, s.Target)
}

func (f Filter) matchCompiler(compiler string) bool {
	name, version, _ := strings.Cut(f.Compiler, "@")
	hasName, hasVersion, _ := strings.Cut(compiler, "@")
	return f.Compiler == "" || name == hasName && matchVersion(version, hasVersion, false)
}

func matchVersion(want, have string, exact bool) bool {
	return want == "" || have == want || !exact && strings.HasPrefix(have, want+".")
}

func matchPattern(pattern, text string) bool {
	ok, err := path.Match(pattern, text)
	return pattern == "" || ok && err == nil
}

// matchAny says whether one of the filters chooses s; none chooses all.
func matchAny(filters []Filter, s *Spec) bool {
	for _, f := range filters {
		if f.Match(s) {
			return true
		}
	}
	return len(filters) == 0
}
