package builder

import (
	"maps"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// activate makes the installation's programs usable in s.
func (s *state) activate(in *spackinstall.Installation) {
	env := map[string]string{}
	for _, kv := range s.image.Config.Env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	if _, ok := env["PATH"]; !ok {
		env["PATH"] = strings.TrimPrefix(defaultPath, "PATH=")
	}
	withFixed(in.Activation, s.fixed).Apply(env)
	s.replaceEnv(env)
}

// withFixed returns an activation that sets the fixed variables, where it changes
// them, to their values. Additions to paths stay.
func withFixed(a spack.Activation, fixed map[string]string) spack.Activation {
	a = slices.Clone(a)
	for i, c := range a {
		if value, ok := fixed[c.Name]; ok && (c.Kind == spack.ChangeSet || c.Kind == spack.ChangeUnset) {
			a[i] = spack.Change{Kind: spack.ChangeSet, Name: c.Name, Value: value}
		}
	}
	return a
}

// finalActivation is the activation in an image that begins with s and goes on with
// the environment step. The stage has the last word, with what it sets before and
// after the step.
func finalActivation(s state, st *recipe.Stage, step recipe.Environment, in *spackinstall.Installation) spack.Activation {
	s = s.clone()
	s.activate(in)
	for _, env := range laterEnv(st, step) {
		if err := s.setenvs(env); err == nil { // that step reports it
			s.fix(maps.Keys(env))
		}
	}
	a := withFixed(in.Activation, s.fixed)
	for _, v := range compilerVariables(st.Compiler) {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

// laterEnv has the variables that a stage sets behind an environment step, as far as
// this stage's own step is concerned.
func laterEnv(st *recipe.Stage, step recipe.Environment) (later []map[string]string) {
	i := slices.Index(st.Steps, recipe.Step(step))
	for _, s := range st.Steps[i+1:] {
		if env, ok := s.(recipe.Env); ok {
			later = append(later, env.Env)
		}
	}
	return later
}

// replaceEnv makes the variables those of env, and keeps the order of the old
// ones.
func (s *state) replaceEnv(env map[string]string) {
	var kept []string
	for _, kv := range s.image.Config.Env {
		name, _, _ := strings.Cut(kv, "=")
		if value, ok := env[name]; ok {
			kept = append(kept, name+"="+value)
			delete(env, name)
		}
	}
	s.image.Config.Env = kept
	for _, name := range slices.Sorted(maps.Keys(env)) {
		s.setenv(name, env[name])
	}
}
