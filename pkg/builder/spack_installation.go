package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// An installation is what a spack step has made, for the steps that build on
// it. It is kept as Data of the step's record.
type installation struct {
	// Dir has the environment's spack.yaml and spack.lock, Views are the
	// views' roots; all are paths in the image.
	Dir   string   `json:"dir"`
	Views []string `json:"views,omitempty"`
	// Trees are install trees beside the usual one: where the environment
	// wants its packages, and upstreams.
	Trees []string `json:"trees,omitempty"`
	// Text identifies the contents of these two files.
	Text string `json:"text"`
	// Packages are what is needed to run, dependencies first.
	Packages []installedPackage `json:"packages"`
	// Externals are packages of the distribution that they need.
	Externals []installedPackage `json:"externals,omitempty"`
	// Activation is what makes the environment's programs usable.
	Activation spack.Activation `json:"activation,omitempty"`
	// Variant says what else the packages' content depends on, such as
	// whether they are stripped.
	Variant string `json:"variant,omitempty"`
}

// installed reports whether a path leads to a package that Spack has installed,
// not one of the system.
func (in *installation) installed(name string) bool {
	return slices.ContainsFunc(append([]string{spackInstallRoot}, in.Trees...), func(tree string) bool {
		return strings.HasPrefix(name, tree+"/")
	})
}

// An installedPackage is a package of an installation.
type installedPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	Prefix  string `json:"prefix,omitempty"`
	// License as Spack knows it, if it does.
	License string `json:"license,omitempty"`
}

// String is the package as people write it.
func (p installedPackage) String() string { return p.Name + "@" + p.Version }

// key identifies everything that an environment step takes over.
func (in *installation) key() string { return keyOf("installation", jsonOf(in)) }

func parseInstallation(data json.RawMessage) (*installation, error) {
	var in installation
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("read what the spack step has noted: %w", err)
	}
	if in.Dir == "" {
		return nil, errors.New("read what the spack step has noted: it is not complete")
	}
	return &in, nil
}

// activate makes the installation's programs usable in s.
func (s *state) activate(in *installation) {
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

// replaceEnv makes the variables those of env, and keeps the order of what was
// there.
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
