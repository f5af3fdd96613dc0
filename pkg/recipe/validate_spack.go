package recipe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func (v *validator) spack(path string, s SpackInstall) {
	switch {
	case s.Environment == "" && s.Inline == nil:
		v.fail(path+".environment", "must be the path of a spack.yaml or an environment")
	case s.Environment != "" && s.Inline != nil:
		v.fail(path+".environment", "is a path or an environment, not both")
	}
	if s.Jobs != "" && s.Jobs != "auto" {
		if n, err := strconv.Atoi(s.Jobs); err != nil || n < 1 {
			v.fail(path+".jobs", "must be auto or a number above 0, not %q", s.Jobs)
		}
	}
	if s.ConcurrentPackages < 0 {
		v.fail(path+".concurrent_packages", "must be a number above 0, not %d", s.ConcurrentPackages)
	}
	v.network(path+".network", s.Network)
	for name, tree := range s.Upstreams {
		if !strings.HasPrefix(tree, "/") {
			v.fail(path+".upstreams."+name, "must be the absolute path of an install tree in the image, not %q", tree)
		}
	}
	if !slices.Contains([]string{"", "reuse", "fresh"}, s.Concretize) {
		v.fail(path+".concretize", "must be reuse or fresh, not %q", s.Concretize)
	}
	if b := s.Buildcache; b != nil {
		if b.Tag != "" && (!imageTag.MatchString(b.Tag) || strings.HasSuffix(b.Tag, ".spack")) {
			v.fail(path+".buildcache.tag", "must be a tag such as latest, and none of those of packages, which end with .spack, not %q", b.Tag)
		}
		if b.Tag != "" && len(b.Push) == 0 {
			v.fail(path+".buildcache.tag", "names an image at the mirrors of push, and there are none")
		}
		for key, id := range map[string]string{"username": b.Username, "password": b.Password} {
			if id != "" {
				v.secretReference(path+".buildcache."+key, id)
			}
		}
	}
	if src := s.Spack; src != nil {
		set := 0
		for _, f := range []string{src.Version, src.Path, src.Git} {
			if f != "" {
				set++
			}
		}
		if set != 1 {
			v.fail(path+".spack", "must have exactly one of version, path and git")
		}
	}
}

// spackNames reports environments of one stage that cannot be told apart.
func (v *validator) spackNames(path string, st *Stage) {
	seen := map[string]bool{}
	for i, s := range st.Steps {
		install, ok := s.(Spack)
		if !ok {
			continue
		}
		name := install.Spack.Name
		if seen[name] {
			v.fail(fmt.Sprintf("%s.steps[%d].spack.name", path, i), "this stage has a spack environment with the name %q already; give each its own name:", name)
		}
		seen[name] = true
	}
}

// environment checks that a step takes an environment which its stage has.
func (v *validator) environment(path string, st *Stage, s Environment) {
	if s.Layers < 0 || s.Layers > MaxPackageLayers {
		v.fail(path+".layers", "must be a number from 1 to %d, not %d", MaxPackageLayers, s.Layers)
	}
	v.stageReference(path+".environment", st, s.From)
	source := v.r.Stage(s.From)
	if source == nil || source == st || v.unsureStages {
		return
	}
	names := v.spackOf(source)
	switch {
	case len(names) == 0:
		v.fail(path+".environment", "the stage %q installs no spack environment; give it a spack step", s.From)
	case s.Name == "" && len(names) > 1:
		v.fail(path+".environment", "the stage %q has several spack environments; say with name: which one", s.From)
	case s.Name != "" && !slices.Contains(names, s.Name):
		v.fail(path+".name", "the stage %q has no spack environment with the name %q", s.From, s.Name).Suggestion = closest(s.Name, names)
	}
}

// spackOf names the environments that a stage has, also those of the stages
// that it starts from.
func (v *validator) spackOf(st *Stage) []string {
	var names []string
	for range len(v.r.Stages) { // stages may start from one another in a circle
		if st == nil {
			break
		}
		for _, s := range st.Steps {
			if install, ok := s.(Spack); ok {
				names = append(names, install.Spack.Name)
			}
		}
		st = v.r.Stage(st.From)
	}
	return names
}

// activation reports an entrypoint that would activate nothing.
func (v *validator) activation(path string, st *Stage) {
	if st.Entrypoint.Shell != "activate" || v.unsureStages {
		return
	}
	for from, n := st, 0; from != nil && n < len(v.r.Stages); from, n = v.r.Stage(from.From), n+1 {
		for _, s := range from.Steps {
			if _, ok := s.(Environment); ok {
				return
			}
		}
	}
	v.fail(path+".entrypoint", "activate needs an environment step in this stage, or in one that it starts from: there is nothing to activate")
}
