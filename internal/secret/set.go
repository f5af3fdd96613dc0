// Package secret finds the values of secrets in what a build writes.
//
// NewSet prepares the values once. Set.Masker replaces them in output while it
// streams, Set.Mask in a text; Set.Scanner and Set.Find say whether data holds
// one. All know a value as it is, in JSON, URL-encoded, in base64 and in hex.
//
// The package keeps values in memory only and never prints them: every type
// formats as "[secret]". It does not find what has been encrypted, compressed,
// cut into pieces or encoded in another way.
package secret

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// minValue is the length of the shortest value that is looked for. Shorter
// ones are found by chance in every large file.
const minValue = 6

// redacted is what takes the place of anything that could hold a value.
const redacted = "[secret]"

// A Set is a number of secrets. It does not change, and may be used by several
// goroutines. A nil Set has no secrets.
type Set struct {
	ids   []string
	short []string
	// mask has all forms; text those that are found as they are, packed
	// those that are found in data without line breaks.
	mask, text, packed *automaton
}

// NewSet makes a set of the values by id. Those that public names are neither
// masked nor searched for, nor are values of less than six bytes, not counting
// line breaks at the end.
func NewSet(values map[string][]byte, public map[string]bool) *Set {
	s := &Set{mask: newAutomaton(), text: newAutomaton(), packed: newAutomaton()}
	for _, id := range slices.Sorted(maps.Keys(values)) {
		value := strings.TrimRight(string(values[id]), "\r\n")
		switch {
		case public[id] || value == "":
		case len(value) < minValue:
			s.short = append(s.short, id)
		default:
			s.add(id, value)
		}
	}
	for _, a := range []*automaton{s.mask, s.text, s.packed} {
		a.compile()
	}
	return s
}

func (s *Set) add(id, value string) {
	label := len(s.ids)
	s.ids = append(s.ids, id)
	for _, f := range textForms(value) {
		s.text.add(f.text, hit{label, f.form})
		s.mask.add(f.text, hit{label, f.form})
	}
	for _, f := range packedForms(value) {
		s.packed.add(f.text, hit{label, f.form})
	}
	for _, f := range outputForms(value) {
		s.mask.add(f.text, hit{label, f.form})
	}
}

// TooShort returns the ids, sorted, of the values that are not looked for
// because they are too short. Absent (empty) values are not among them.
func (s *Set) TooShort() []string {
	if s == nil {
		return nil
	}
	return slices.Clone(s.short)
}

// Empty reports whether there is nothing to look for.
func (s *Set) Empty() bool { return s == nil || s.mask.empty() }

// String hides the values; so do the other methods that print.
func (s *Set) String() string { return redacted }

// GoString hides the values from %#v.
func (s *Set) GoString() string { return redacted }

// Format hides the values from every verb.
func (s *Set) Format(f fmt.State, _ rune) { hide(f) }

// MarshalText hides the values from JSON, YAML and log/slog.
func (s *Set) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON hides the values.
func (s *Set) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

func hide(f fmt.State) { _, _ = f.Write([]byte(redacted)) }
