package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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

func referenceNames(s string) []string {
	var names []string
	_ = scan(s, func(string) {}, func(r reference) error {
		if r.name != "" {
			names = append(names, r.name)
		}
		return nil
	})
	return names
}

func hasReference(s string) bool { return strings.Contains(s, "${") }

func checkReferences(s string) error {
	return scan(s, func(string) {}, func(reference) error { return nil })
}

// references reports references to arguments that the recipe does not have.
func (v *validator) references(path, s string) {
	err := scan(s, func(string) {}, func(r reference) error {
		if _, ok := v.r.Args[r.name]; ok || r.name == "" || r.hasDefault {
			return nil
		}
		if _, ok := v.secretOf(r.name); ok {
			return nil // said by stored
		}
		e := v.fail(path, "there is no argument %q; declare it under args: or give it a default, ${%s:-default}", r.name, r.name)
		e.Suggestion = closest(r.name, slices.Sorted(maps.Keys(v.r.Args)))
		return nil
	})
	if err != nil {
		v.fail(path, "%v", err)
	}
}

// Substitute returns a copy of the recipe in which the arguments are
// replaced: in names, from, bootstrap, platform, paths, owners, URLs, labels,
// annotations, ports and env, as Recipe.Args says. In env, references to
// anything else stay, because they may mean variables of the image. Commands
// and the contents of files are never touched. Given overrides the recipe's
// values; a name that the recipe does not have is an error.
func (r *Recipe) Substitute(given map[string]string) (*Recipe, error) {
	var errs Errors
	names := slices.Sorted(maps.Keys(r.Args))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := r.Args[name]; !ok {
			e := &Error{Message: fmt.Sprintf("the recipe has no argument %q", name), Suggestion: closest(name, names)}
			if _, ok := r.Secrets[name]; ok {
				e.Message = fmt.Sprintf("%q is a secret; give it with --secret id=%s, or it would be stored in the image", name, name)
				e.Suggestion = ""
			}
			errs = append(errs, e)
		}
	}
	if err := errs.orNil(); err != nil {
		return nil, err
	}
	c := *r
	c.Args = merge(r.Args, given)
	s := &substitution{args: c.Args}
	c.Name = s.text(r.Name)
	c.Stages = make([]Stage, len(r.Stages))
	for i := range r.Stages {
		c.Stages[i] = s.stage(r.Stages[i])
	}
	if s.err != nil {
		return nil, s.err
	}
	return &c, nil
}

func merge(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, b)
	return m
}

type substitution struct {
	args map[string]string
	err  error
}

func (s *substitution) text(t string) string {
	out, err := Expand(t, func(name string) (string, bool) {
		value, ok := s.args[name]
		return value, ok
	})
	if err != nil && s.err == nil {
		s.err = Errors{{Message: fmt.Sprintf("in %q: %v", t, err)}}
	}
	return out
}

// variable replaces arguments in the value of an environment variable and
// leaves the rest to Expand.
func (s *substitution) variable(t string) string {
	var out strings.Builder
	err := scan(t, func(text string) { out.WriteString(text) }, func(r reference) error {
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
	if err != nil && s.err == nil {
		s.err = Errors{{Message: fmt.Sprintf("in %q: %v", t, err)}}
	}
	return out.String()
}

func (s *substitution) texts(t []string) []string {
	out := slices.Clone(t)
	for i := range out {
		out[i] = s.text(out[i])
	}
	return out
}

func (s *substitution) values(m map[string]string, f func(string) string) map[string]string {
	out := maps.Clone(m)
	for k := range out {
		out[k] = f(out[k])
	}
	return out
}

func (s *substitution) stage(st Stage) Stage {
	st.From, st.Platform, st.Workdir = s.text(st.From), s.text(st.Platform), s.text(st.Workdir)
	if st.Bootstrap != nil {
		b := *st.Bootstrap
		b.Mirror, b.Variant, b.Keyring = s.text(b.Mirror), s.text(b.Variant), s.text(b.Keyring)
		b.Packages, b.Components = s.texts(b.Packages), s.texts(b.Components)
		st.Bootstrap = &b
	}
	if st.Compiler != nil {
		c := *st.Compiler
		c.CC, c.CXX, c.FC = s.text(c.CC), s.text(c.CXX), s.text(c.FC)
		st.Compiler = &c
	}
	st.Env = s.values(st.Env, s.variable)
	st.Labels, st.Annotations = s.values(st.Labels, s.text), s.values(st.Annotations, s.text)
	st.Expose, st.Volumes = s.texts(st.Expose), s.texts(st.Volumes)
	steps := make([]Step, len(st.Steps))
	for i := range st.Steps {
		steps[i] = s.step(st.Steps[i])
	}
	st.Steps = steps
	return st
}

func (s *substitution) step(step Step) Step {
	switch step := step.(type) {
	case Run:
		step.Env = s.values(step.Env, s.variable)
		step.User, step.Workdir = s.text(step.User), s.text(step.Workdir)
		step.Mounts = slices.Clone(step.Mounts)
		for i := range step.Mounts {
			m := &step.Mounts[i]
			m.Source, m.Target, m.ID = s.text(m.Source), s.text(m.Target), s.text(m.ID)
		}
		return step
	case Copy:
		step.Sources, step.To, step.Owner = s.texts(step.Sources), s.text(step.To), s.text(step.Owner)
		step.Checksum = s.text(step.Checksum)
		return step
	case File:
		step.Path, step.Owner = s.text(step.Path), s.text(step.Owner)
		return step
	case Env:
		step.Env = s.values(step.Env, s.variable)
		return step
	case Workdir:
		step.Workdir = s.text(step.Workdir)
		return step
	case User:
		step.User.Name, step.User.Home, step.User.Shell = s.text(step.User.Name), s.text(step.User.Home), s.text(step.User.Shell)
		return step
	case Check:
		step.Env = s.values(step.Env, s.variable)
		step.User, step.Workdir = s.text(step.User), s.text(step.Workdir)
		return step
	}
	return step
}
