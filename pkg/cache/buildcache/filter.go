package buildcache

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Filter chooses packages; the zero value chooses all. ParseFilter reads one
// from text.
type Filter struct {
	Name string
	// Version is a list of versions and ranges with commas between, as Spack
	// has them: 1.14 also chooses 1.14.3, =1.14 does not, 1.10:1.12 chooses all
	// from 1.10 to 1.12.anything.
	Version string
	Hash    string // or its start
	// Variants are what variants must be: true, false or one or several values
	// with commas between, all of which the package must have.
	Variants map[string]string
	// Compiler is NAME or NAME@VERSION.
	Compiler string
	// Platform, OS and Target may hold the wildcards of path.Match.
	Platform, OS, Target string
}

// ParseFilter reads a form of Spack's specs: name, @version with ranges and
// lists, +variant, ~variant, variant=value, /hash, %compiler, platform=…, os=…,
// target=… and arch=PLATFORM-OS-TARGET, with spaces between or, but for those
// with a =, without. It has no dependencies (^).
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
	if key, value, ok := strings.Cut(term, "="); ok && !strings.ContainsAny(key, "@/%+~") {
		return f.addValue(key, value)
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
	term, err := f.addSwitches(term)
	if err != nil {
		return err
	}
	if name, versions, ok := strings.Cut(term, "@"); ok {
		if err := checkVersions(versions); err != nil {
			return err
		}
		f.Version, term = versions, name
	}
	if term == "" {
		return nil
	}
	if !nameRE.MatchString(term) {
		return fmt.Errorf("%q is no package name; dependencies can't be asked for", term)
	}
	f.Name = term
	return nil
}

// addSwitches takes the variants that are on or off from the end of a term, and
// returns what is before them. A name may have a hyphen, so that -variant has
// to stand by itself.
func (f *Filter) addSwitches(term string) (before string, err error) {
	if name, ok := strings.CutPrefix(term, "-"); ok {
		term = "~" + name
	}
	for {
		i := strings.LastIndexAny(term, "+~")
		if i < 0 {
			return term, nil
		}
		if !nameRE.MatchString(term[i+1:]) {
			return "", fmt.Errorf("%s is followed by a variant", term[i:i+1])
		}
		f.addVariant(term[i+1:], strconv.FormatBool(term[i] == '+'))
		term = term[:i]
	}
}

func (f *Filter) addVariant(name, value string) {
	if f.Variants == nil {
		f.Variants = map[string]string{}
	}
	f.Variants[name] = value
}

func checkVersions(list string) error {
	for _, item := range strings.Split(list, ",") {
		low, high, isRange := strings.Cut(strings.TrimPrefix(item, "="), ":")
		if low == "" && !isRange || strings.Contains(high, ":") || isRange && item[0] == '=' {
			return fmt.Errorf("@%s is no version and no range of versions, such as 1.10:1.12", list)
		}
	}
	return nil
}

func (f *Filter) addValue(key, value string) error {
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
		if !nameRE.MatchString(key) || value == "" {
			return fmt.Errorf("%s=%s is no value of a variant", key, value)
		}
		f.addVariant(key, value)
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
		(f.Version == "" || inVersions(s.Version, f.Version)) &&
		strings.HasPrefix(s.Hash, f.Hash) && f.matchCompiler(s.Compiler) &&
		matchPattern(f.Platform, s.Platform) && matchPattern(f.OS, s.OS) && matchPattern(f.Target, s.Target) &&
		f.matchVariants(s)
}

func (f Filter) matchCompiler(compiler string) bool {
	name, versions, _ := strings.Cut(f.Compiler, "@")
	hasName, hasVersion, _ := strings.Cut(compiler, "@")
	return f.Compiler == "" || name == hasName && (versions == "" || inVersions(hasVersion, versions))
}

func (f Filter) matchVariants(s *Spec) bool {
	if len(f.Variants) == 0 {
		return true
	}
	has := s.Variants()
	for name, want := range f.Variants {
		for _, value := range strings.Split(want, ",") {
			if !slices.Contains(has[name], value) {
				return false
			}
		}
	}
	return true
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
