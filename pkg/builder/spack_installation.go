package builder

import (
	"maps"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spackinstall"
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
	in.Activation.Apply(env)
	s.replaceEnv(env)
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
