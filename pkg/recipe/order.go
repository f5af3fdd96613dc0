package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// Stage returns the stage of that name, or nil.
func (r *Recipe) Stage(name string) *Stage {
	for i := range r.Stages {
		if r.Stages[i].Name == name {
			return &r.Stages[i]
		}
	}
	return nil
}

// Needs returns the stages that have to be built before s, each once, in the
// order in which s names them.
func (s *Stage) Needs(r *Recipe) []string {
	var needs []string
	add := func(name string) {
		if r.Stage(name) != nil && !slices.Contains(needs, name) {
			needs = append(needs, name)
		}
	}
	add(s.From)
	for _, step := range s.Steps {
		switch step := step.(type) {
		case Copy:
			add(step.From)
		case Environment:
			add(step.From)
		case Run:
			for _, m := range step.Mounts {
				add(m.From)
			}
		}
	}
	return needs
}

// Order returns the stages that target needs, and target itself as the last,
// in an order in which they can be built.
func (r *Recipe) Order(target string) ([]string, error) {
	var order, trail []string
	var visit func(name string) error
	visit = func(name string) error {
		if slices.Contains(order, name) {
			return nil
		}
		if slices.Contains(trail, name) {
			return fmt.Errorf("stages need one another in a circle: %s", strings.Join(append(trail, name), " → "))
		}
		st := r.Stage(name)
		if st == nil {
			return fmt.Errorf("there is no stage %q", name)
		}
		trail = append(trail, name)
		for _, need := range st.Needs(r) {
			if err := visit(need); err != nil {
				return err
			}
		}
		trail = trail[:len(trail)-1]
		order = append(order, name)
		return nil
	}
	if err := visit(target); err != nil {
		return nil, err
	}
	return order, nil
}

// ImageNames returns the full names of the image that the recipe makes, each
// once: those that the tags mean (see [FullName]) or, without any, the recipe's
// name with the tag latest. A recipe without a name has none then.
func (r *Recipe) ImageNames(tags []string) ([]string, error) {
	if len(tags) == 0 && r.Name != "" {
		tags = []string{"latest"}
	}
	var names []string
	for _, tag := range tags {
		name, err := FullName(r.Name, tag)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// FullName returns the image name that a tag means. A bare tag
// (HPCAsia2026) goes behind name; without a name it is an image of that name
// on this host (localhost/WORD:latest), as podman has it, which has to be in
// lower case. Anything with a slash or a colon is a full name and stands for itself.
func FullName(name, tag string) (string, error) {
	if strings.ContainsAny(tag, "/:@") {
		if !imageName.MatchString(tag) || strings.Contains(tag, "@") {
			return "", fmt.Errorf("%q is not an image name; it looks like registry.example.org/group/name:tag, in lower case but for the tag", tag)
		}
		if !strings.Contains(tag[strings.LastIndexByte(tag, '/')+1:], ":") {
			tag += ":latest"
		}
		return withHost(tag), nil
	}
	if !imageTag.MatchString(tag) {
		return "", fmt.Errorf("%q is not a tag; use letters, digits, . _ and -", tag)
	}
	if name != "" {
		return withHost(name + ":" + tag), nil
	}
	if !repository.MatchString(tag) {
		return "", fmt.Errorf("the recipe has no name that the tag %q could go with; add name: to the recipe or give a full name such as localhost/app:%s", tag, tag)
	}
	return "localhost/" + tag + ":latest", nil
}

// withHost puts localhost before a name that has no registry.
func withHost(name string) string {
	first, _, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return name
	}
	return "localhost/" + name
}
