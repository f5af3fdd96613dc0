//go:build integration

package differential

import (
	"fmt"
	"slices"
	"strings"
)

// smaller leaves out of a scenario what it can while a difference of the same
// field stays.
func smaller(s *scenario, before []difference, c comparison) (*scenario, []difference) {
	field := before[0].field
	left := *tries
	try := func(smaller *scenario) bool {
		if left == 0 {
			return false
		}
		left--
		differences, err := c.compare(smaller)
		if err != nil || !slices.ContainsFunc(differences, func(d difference) bool { return d.field == field }) {
			return false
		}
		s, before = smaller, differences
		return true
	}
	for again := true; again && left > 0; {
		again = false
		for n := 0; ; {
			candidates := s.candidates()
			if n >= len(candidates) || left == 0 {
				break
			}
			if try(candidates[n]) {
				again = true
			} else {
				n++
			}
		}
	}
	return s, before
}

// candidates are scenarios with one thing less, the largest things first.
func (s *scenario) candidates() (all []*scenario) {
	add := func(change func(*scenario)) {
		c := s.clone()
		change(c)
		all = append(all, c)
	}
	for i := range len(s.stages) - 1 {
		if name := s.stages[i].name; !s.copiesFrom(name) {
			add(func(c *scenario) { c.stages = slices.Delete(c.stages, i, i+1) })
		}
	}
	if len(s.ignore) > 0 {
		add(func(c *scenario) { c.ignore = nil })
	}
	for i := len(s.stages) - 1; i >= 0; i-- {
		for j := len(s.stages[i].steps) - 1; j >= 0; j-- {
			add(func(c *scenario) { c.stages[i].steps = slices.Delete(c.stages[i].steps, j, j+1) })
		}
	}
	if len(s.context) > 1 {
		add(func(c *scenario) { c.context = nil })
		add(func(c *scenario) { c.context = c.context[:len(c.context)/2] })
		add(func(c *scenario) { c.context = c.context[len(c.context)/2:] })
	}
	for i := range s.context {
		add(func(c *scenario) { c.context = slices.Delete(c.context, i, i+1) })
	}
	for i := range s.stages {
		for j := range s.stages[i].steps {
			s.stages[i].steps[j].candidates(func(change func(*step)) {
				add(func(c *scenario) { change(&c.stages[i].steps[j]) })
			})
		}
	}
	for i := range s.ignore {
		add(func(c *scenario) { c.ignore = slices.Delete(c.ignore, i, i+1) })
	}
	return all
}

func (s *scenario) copiesFrom(name string) bool {
	return slices.ContainsFunc(s.stages, func(st stage) bool {
		return slices.ContainsFunc(st.steps, func(step step) bool { return step.from == name })
	})
}

func (s *step) candidates(add func(func(*step))) {
	for i := range s.lines {
		if len(s.lines) > 1 {
			add(func(c *step) { c.lines = slices.Delete(c.lines, i, i+1) })
		}
	}
	for i := range s.sources {
		if len(s.sources) > 1 {
			add(func(c *step) { c.sources = slices.Delete(c.sources, i, i+1) })
		}
	}
	for i := range s.exclude {
		add(func(c *step) { c.exclude = slices.Delete(c.exclude, i, i+1) })
	}
	if s.owner != "" {
		add(func(c *step) { c.owner = "" })
	}
	if s.mode != "" {
		add(func(c *step) { c.mode = "" })
	}
}

// describe prints a scenario so that it can be built by hand.
func (s *scenario) describe() string {
	var b strings.Builder
	b.WriteString("context:\n")
	for i := range s.context {
		fmt.Fprintf(&b, "  %s\n", &s.context[i])
	}
	if len(s.ignore) > 0 {
		fmt.Fprintf(&b, ".containerignore: %q\n", s.ignore)
	}
	text, err := s.recipe()
	if err != nil {
		return err.Error()
	}
	fmt.Fprintf(&b, "recipe:\n%s", indent(string(text)))
	printed, err := s.containerfile("")
	if err == nil {
		fmt.Fprintf(&b, "Containerfile:\n%s", indent(string(printed)))
	}
	return b.String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

func describeAll(all []difference) string {
	var b strings.Builder
	for i, d := range all {
		if i == 12 {
			fmt.Fprintf(&b, "  and %d more\n", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", d)
	}
	return b.String()
}
