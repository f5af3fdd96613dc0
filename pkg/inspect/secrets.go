package inspect

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
)

// A SecretPattern is something that no file of an image should have.
type SecretPattern struct {
	Name    string
	Pattern *regexp.Regexp
}

// A Finding is a file in which a pattern was found. A later layer may hide it:
// whoever has the image has the file all the same.
type Finding struct {
	Path    string `json:"path"`
	Layer   int    `json:"layer"`
	Pattern string `json:"pattern"`
}

// privateKey is the pattern that holds for texts alone.
const privateKey = "private key"

// KnownSecrets are patterns of keys and tokens whose form says what they are.
func KnownSecrets() []SecretPattern {
	return []SecretPattern{
		{privateKey, regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]{1,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----\r?\n[A-Za-z0-9+/=:\r\n, .-]{64}`)},
		{"GitHub token", regexp.MustCompile(`gh[pousr]_[A-Za-z0-9]{36}\b`)},
		{"GitHub token", regexp.MustCompile(`github_pat_[A-Za-z0-9_]{60}`)},
		{"GitLab token", regexp.MustCompile(`glpat-[A-Za-z0-9_-]{20}`)},
		{"AWS key id", regexp.MustCompile(`\bAKIA[A-Z2-7]{16}\b`)},
		{"Slack token", regexp.MustCompile(`xox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}`)},
	}
}

// overlap is how long a match that spans two writes may be to be found.
const overlap = 4 << 10

// A searcher looks for patterns in what is written to it.
type searcher struct {
	patterns []SecretPattern
	found    []bool
	window   []byte
	begun    bool
}

// program begins a program or library of Linux. Those of cryptography have
// keys for testing themselves.
var program = []byte("\x7fELF")

func newSearcher(patterns []SecretPattern) *searcher {
	return &searcher{patterns: patterns, found: make([]bool, len(patterns))}
}

// Write implements io.Writer.
func (s *searcher) Write(p []byte) (int, error) {
	if !s.begun && bytes.HasPrefix(p, program) {
		s.patterns = slices.DeleteFunc(slices.Clone(s.patterns), func(p SecretPattern) bool { return p.Name == privateKey })
	}
	s.begun = true
	s.window = append(s.window, p...)
	for i, pattern := range s.patterns {
		s.found[i] = s.found[i] || pattern.Pattern.Match(s.window)
	}
	if keep := len(s.window) - overlap; keep > 0 {
		s.window = append(s.window[:0], s.window[keep:]...)
	}
	return len(p), nil
}

// hits are the names of what was found.
func (s *searcher) hits() []string {
	var names []string
	for i, found := range s.found {
		if found {
			names = append(names, s.patterns[i].Name)
		}
	}
	return names
}

// CompileSecret makes a pattern of a regular expression of RE2.
func CompileSecret(name, pattern string) (SecretPattern, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return SecretPattern{}, fmt.Errorf("pattern of %s: %w", name, err)
	}
	if re.MatchString("") {
		return SecretPattern{}, fmt.Errorf("pattern of %s: %q matches everything", name, pattern)
	}
	return SecretPattern{Name: name, Pattern: re}, nil
}
