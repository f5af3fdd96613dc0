package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A secretSource says where the host keeps one secret: in a variable of the
// environment or in a file.
type secretSource struct {
	id, env, file string
}

// parseSecret reads a --secret flag as docker and podman write it.
func parseSecret(text string) (secretSource, error) {
	const form = "write --secret id=ID,env=VARIABLE or --secret id=ID,src=FILE"
	var s secretSource
	kind := ""
	for _, part := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return s, usagef(form, "--secret: %q in %q is not KEY=VALUE", part, text)
		}
		switch key {
		case "id":
			s.id = value
		case "env":
			s.env = value
		case "src", "source":
			s.file = value
		case "type":
			kind = value
		default:
			return s, usagef(form, "--secret: unknown key %q in %q", key, text)
		}
	}
	return s, s.finish(kind, text, form)
}

// finish applies what docker takes for granted.
func (s *secretSource) finish(kind, text, form string) error {
	if kind == "env" && s.env == "" { // docker: src is the variable then
		s.env, s.file = s.file, ""
	}
	switch {
	case s.id == "":
		return usagef(form, "--secret: %q has no id", text)
	case s.env != "" && s.file != "":
		return usagef(form, "--secret: %q gives both a variable and a file", text)
	case kind != "" && kind != "env" && kind != "file":
		return usagef(form, "--secret: unknown type %q in %q", kind, text)
	case kind == "file" && s.file == "":
		return usagef(form, "--secret: %q names no file", text)
	case s.env == "" && s.file == "":
		s.env = s.id
	}
	return nil
}

// secretFlags are all --secret flags by id.
func secretFlags(texts []string) (map[string]secretSource, error) {
	flags := map[string]secretSource{}
	for _, text := range texts {
		s, err := parseSecret(text)
		if err != nil {
			return nil, err
		}
		if _, twice := flags[s.id]; twice {
			return nil, usagef("give each secret once", "--secret: %q is given twice", s.id)
		}
		flags[s.id] = s
	}
	return flags, nil
}

// checkSecretFlags finds flags for secrets that the recipe does not declare.
func checkSecretFlags(r *recipe.Recipe, flags map[string]secretSource) error {
	declared := slices.Sorted(maps.Keys(r.Secrets))
	for _, id := range slices.Sorted(maps.Keys(flags)) {
		if !slices.Contains(declared, id) {
			return usagef(undeclared("secrets", "secrets", id, declared), "--secret: the recipe has no secret %q", id)
		}
	}
	return nil
}

// A secretReader reads the values of a recipe's secrets on this host.
type secretReader struct {
	lookup func(string) (string, bool)
	// dir is where relative paths of the recipe start.
	dir string
}

// hostSecrets are the secrets of a recipe on this host, by id.
type hostSecrets struct {
	values map[string][]byte
	// missing says why there is no value.
	missing map[string]error
}

// read looks for every secret that the recipe declares. A flag wins over the
// recipe, and has to lead to a value; whether a secret that is missing matters
// depends on the plan.
func (s *secretReader) read(r *recipe.Recipe, flags map[string]secretSource) (*hostSecrets, error) {
	found := &hostSecrets{values: map[string][]byte{}, missing: map[string]error{}}
	for _, id := range slices.Sorted(maps.Keys(r.Secrets)) {
		if flag, ok := flags[id]; ok {
			value, err := s.fromFlag(flag)
			if err != nil {
				return nil, err
			}
			found.values[id] = value
			continue
		}
		value, err := s.fromRecipe(r.Secrets[id])
		if err != nil {
			found.missing[id] = err
			continue
		}
		found.values[id] = value
	}
	return found, nil
}

// check compares what the host has with what the steps to be run need: a
// required secret that is missing is an error; note is told about each
// optional one.
func (h *hostSecrets) check(p *builder.Plan, note func(text string)) error {
	for _, id := range neededSecrets(p) {
		err, missing := h.missing[id]
		switch {
		case !missing:
		case p.Recipe.Secrets[id].Optional && errors.Is(err, errAbsent):
			note(fmt.Sprintf("the optional secret %q was not given: the steps that use it run without it", id))
		default:
			return usagef(fmt.Sprintf("give it with --secret id=%s,env=VARIABLE or --secret id=%s,src=FILE", id, id), "secret %q: %w", id, err)
		}
	}
	return nil
}

// neededSecrets are the ids that steps without a known result use.
func neededSecrets(p *builder.Plan) []string {
	var ids []string
	for _, planned := range p.Stages {
		users := secretUsers(p.Recipe.Stage(planned.Name))
		for _, step := range planned.Steps {
			if step.Verb != "run" && step.Verb != "spack" {
				continue
			}
			if len(users) == 0 {
				break
			}
			if !step.Cached {
				ids = append(ids, users[0]...)
			}
			users = users[1:]
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// secretUsers are the secrets of each step that may have some, in the order in
// which a plan has these steps, too.
func secretUsers(st *recipe.Stage) [][]string {
	var users [][]string
	for _, step := range st.Steps {
		switch step := step.(type) {
		case recipe.Run:
			ids := []string{}
			for _, use := range step.Secrets {
				ids = append(ids, use.ID)
			}
			users = append(users, ids)
		case recipe.Spack:
			ids := []string{}
			if cache := step.Spack.Buildcache; cache != nil {
				ids = slices.DeleteFunc([]string{cache.Username, cache.Password}, func(id string) bool { return id == "" })
			}
			users = append(users, ids)
		}
	}
	return users
}

// errAbsent says that the host has no value, in contrast to one that cannot be
// read.
var errAbsent = errors.New("this host has no value for it")

func (s *secretReader) fromFlag(flag secretSource) ([]byte, error) {
	if flag.file != "" {
		value, err := os.ReadFile(flag.file)
		if err != nil {
			return nil, usagef("check the path after src=", "--secret id=%s: %w", flag.id, err)
		}
		return value, nil
	}
	value, ok := s.lookup(flag.env)
	if !ok {
		hint := fmt.Sprintf("export %s, or write --secret id=%s,src=FILE", flag.env, flag.id)
		return nil, usagef(hint, "--secret id=%s: the environment variable %s is not set", flag.id, flag.env)
	}
	return []byte(value), nil
}

// fromRecipe looks where the recipe says. An empty variable is what CI systems
// make of a secret that is not there.
func (s *secretReader) fromRecipe(secret recipe.Secret) ([]byte, error) {
	if secret.Env != "" {
		if value, ok := s.lookup(secret.Env); ok && value != "" {
			return []byte(value), nil
		}
	}
	if secret.File != "" {
		value, err := os.ReadFile(s.path(secret.File))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return value, err
		}
	}
	switch {
	case secret.Env != "" && secret.File != "":
		return nil, fmt.Errorf("%w: the environment variable %s is not set and there is no file %s", errAbsent, secret.Env, s.path(secret.File))
	case secret.Env != "":
		return nil, fmt.Errorf("%w: the environment variable %s is not set", errAbsent, secret.Env)
	case secret.File != "":
		return nil, fmt.Errorf("%w: there is no file %s", errAbsent, s.path(secret.File))
	}
	return nil, errAbsent
}

func (s *secretReader) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(s.dir, file)
}
