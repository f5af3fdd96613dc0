package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/failure"
)

// Expand replaces ${NAME} and ${NAME:-default} in s by what lookup says, and
// $$ by a dollar sign. The default applies when the name is unknown or its
// value is empty. A name that is unknown and has no default is an error. A
// dollar sign before anything else stays as it is.
func Expand(s string, lookup func(name string) (string, bool)) (string, error) {
	var out strings.Builder
	err := scan(s, func(text string) { out.WriteString(text) }, func(ref reference) error {
		value, ok := lookup(ref.name)
		switch {
		case ref.name == "":
			value = "$"
		case value == "" && ref.hasDefault:
			value = ref.fallback
		case !ok:
			return fmt.Errorf("${%s} is not known here; ${%s:-default} gives it a value", ref.name, ref.name)
		}
		out.WriteString(value)
		return nil
	})
	return out.String(), err
}

// A reference is ${name} or ${name:-fallback}; the empty name is $$.
type reference struct {
	name, fallback string
	hasDefault     bool
	text           string
}

// scan takes s apart into plain text and references.
func scan(s string, plain func(string), ref func(reference) error) error {
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			plain(s)
			return nil
		}
		plain(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			if err := ref(reference{text: "$$"}); err != nil {
				return err
			}
			s = s[2:]
		case '{':
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return fmt.Errorf("%q has no closing brace; write $$ for a dollar sign", s)
			}
			r := reference{text: s[:end+1]}
			r.name, r.fallback, r.hasDefault = strings.Cut(s[2:end], ":-")
			if !identifier.MatchString(r.name) {
				return fmt.Errorf("%q is not a reference; it looks like ${NAME} or ${NAME:-default}", r.text)
			}
			if strings.Contains(r.fallback, "${") {
				return fmt.Errorf("%q has a reference in its default, which is not possible", r.text+"}")
			}
			if err := ref(r); err != nil {
				return err
			}
			s = s[end+1:]
		default:
			plain("$")
			s = s[1:]
		}
	}
	return nil
}

// Substitute returns a deep copy of the recipe in which ${NAME} and
// ${NAME:-default} are replaced by the arguments wherever Recipe.Args says so.
// In env, references to anything else stay for Expand, because they may mean
// variables of the image; elsewhere they are errors. What replaces a reference
// is not searched for references itself.
//
// Given overrides the recipe's values; a name that the recipe does not have is
// an error. The result is checked as Validate does, so that an argument which
// makes an impossible image name or path is reported as such. Problems are
// Errors.
func (r *Recipe) Substitute(given map[string]string) (*Recipe, error) {
	if err := r.checkGiven(given); err != nil {
		return nil, err
	}
	c := clone(r)
	if c.Args == nil {
		c.Args = map[string]string{}
	}
	maps.Copy(c.Args, given)
	s := &substitution{args: c.Args}
	walker{s.replace}.recipe(c)
	if err := s.errs.orNil(); err != nil {
		return nil, err
	}
	v := newValidator(c)
	v.literal = true
	v.recipe()
	return c, v.errs.orNil()
}

// checkGiven reports values for arguments that the recipe does not have.
func (r *Recipe) checkGiven(given map[string]string) error {
	var errs Errors
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := r.Args[name]; ok {
			continue
		}
		if _, ok := r.Secrets[name]; ok {
			errs.add(&Error{Message: fmt.Sprintf("%q is a secret; as an argument it would be stored in the image", name), Code: failure.SecretMissing, Data: failure.Data{"id": name}})
			continue
		}
		errs.add(&Error{
			Message:    fmt.Sprintf("the recipe has no argument %q%s", name, known(slices.Sorted(maps.Keys(r.Args)))),
			Suggestion: closest(name, slices.Collect(maps.Keys(r.Args))),
		})
	}
	return errs.orNil()
}

func known(names []string) string {
	if len(names) == 0 {
		return "; it has none"
	}
	return "; it has " + strings.Join(names, ", ")
}

// A substitution replaces references by arguments.
type substitution struct {
	args map[string]string
	errs Errors
}

func (s *substitution) replace(path, text string, kind place) string {
	if kind != inText {
		return s.variable(path, text)
	}
	out, err := Expand(text, func(name string) (string, bool) {
		value, ok := s.args[name]
		return value, ok
	})
	if err != nil {
		s.errs.add(&Error{Path: path, Message: err.Error()})
	}
	return out
}

// variable replaces arguments in the value of an environment variable and
// leaves the rest to Expand.
func (s *substitution) variable(path, text string) string {
	var out strings.Builder
	err := scan(text, func(plain string) { out.WriteString(plain) }, func(r reference) error {
		value, ok := s.args[r.name]
		switch {
		case !ok:
			out.WriteString(r.text)
		case value == "" && r.hasDefault:
			out.WriteString(strings.ReplaceAll(r.fallback, "$", "$$"))
		default:
			out.WriteString(strings.ReplaceAll(value, "$", "$$"))
		}
		return nil
	})
	if err != nil {
		s.errs.add(&Error{Path: path, Message: err.Error()})
	}
	return out.String()
}
