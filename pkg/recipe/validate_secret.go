package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (v *validator) hasReference(s string) bool { return !v.literal && strings.Contains(s, "${") }

// argument checks one of the texts in which arguments are replaced. It is a
// walker's visit.
func (v *validator) argument(path, text string, kind place) string {
	err := scan(text, func(string) {}, func(ref reference) error {
		if ref.name == "" {
			return nil
		}
		if id, ok := v.secretOf(ref.name); ok {
			v.secretAsArgument(path, ref.name, id, kind)
			return nil
		}
		if _, ok := v.r.Args[ref.name]; ok || ref.hasDefault || kind != inText || v.unsureArgs {
			return nil
		}
		e := v.fail(path, "there is no argument %q; declare it under args: or give it a default, ${%s:-default}", ref.name, ref.name)
		if !v.errs.full() {
			e.Suggestion = closest(ref.name, slices.Sorted(maps.Keys(v.r.Args)))
		}
		return nil
	})
	if err != nil {
		v.fail(path, "%v", err)
	}
	if kind != inRunEnv {
		v.storedFile(path, text)
	}
	return text
}

func (v *validator) secretAsArgument(path, name, id string, kind place) {
	if kind == inRunEnv {
		v.fail(path, "${%s} is the secret %q; a run step gets it with 'secrets: [{id: %s, env: NAME}]'", name, id, id)
		return
	}
	v.fail(path, "${%s} would store the secret %q in the image; give it to a run step with 'secrets: [%s]'", name, id, id)
}

// stored reports secrets in the texts of commands that become part of the
// image's configuration.
func (v *validator) stored(path string, texts ...string) {
	for _, text := range texts {
		for _, name := range referenceNames(text) {
			if id, ok := v.secretOf(name); ok {
				v.secretAsArgument(path, name, id, inText)
			}
		}
		v.storedFile(path, text)
	}
}

// storedFile reports paths of secrets in what becomes part of the image.
func (v *validator) storedFile(path, text string) {
	for _, word := range secretPaths(text) {
		if id, ok := v.secretOfFile(word); ok {
			v.fail(path, "/run/secrets/%s is there only while a run step has 'secrets: [%s]', and what it holds must not get into the image", id, id)
		}
	}
}

// referenceNames are the names in s, as far as its references are in order.
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

// secretOf finds the secret that a variable name stands for.
func (v *validator) secretOf(name string) (string, bool) {
	if _, arg := v.r.Args[name]; arg {
		return "", false
	}
	id, ok := v.secretNames[name]
	return id, ok
}

// secretOfFile finds the secret that the name of a file below /run/secrets
// stands for. The name may have the end of a sentence behind it.
func (v *validator) secretOfFile(name string) (string, bool) {
	for _, id := range []string{name, strings.TrimRight(name, ".-")} {
		if _, ok := v.r.Secrets[id]; ok {
			return id, true
		}
	}
	return name, false
}

// secretPaths are the names below /run/secrets that a text has, each once.
func secretPaths(text string) []string {
	var names []string
	seen := map[string]bool{}
	for {
		_, after, ok := strings.Cut(text, "/run/secrets/")
		if !ok {
			return names
		}
		name := after
		if end := strings.IndexFunc(after, func(r rune) bool { return !secretRune(r) }); end >= 0 {
			name = after[:end]
		}
		if name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		text = after
	}
}

func secretRune(r rune) bool {
	return r == '_' || r == '.' || r == '-' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
}

// mentions reports secrets that a command reads without having them, or
// elsewhere than it has them.
func (v *validator) mentions(path string, uses []SecretUse, texts ...string) {
	for _, name := range secretPaths(strings.Join(texts, " ")) {
		id, declared := v.secretOfFile(name)
		file := "/run/secrets/" + id
		if slices.ContainsFunc(uses, func(u SecretUse) bool { return u.Target == file || (u.Target == "" && u.ID == id) }) {
			continue
		}
		i := slices.IndexFunc(uses, func(u SecretUse) bool { return u.ID == id })
		switch {
		case i >= 0:
			v.fail(path, "reads %s, but its target: puts the secret at %s", file, uses[i].Target)
		case declared:
			v.fail(path, "reads %s, which is there only with 'secrets: [%s]' on a run step", file, id)
		case !v.unsureSecrets && !v.errs.full():
			// An image may have files of its own there; close to a secret it is a slip.
			if s := closest(id, slices.Sorted(maps.Keys(v.r.Secrets))); s != "" {
				v.fail(path, "reads %s, but there is no secret %q", file, id).Suggestion = s
			}
		}
	}
}

func (v *validator) envMentions(path string, uses []SecretUse, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		v.mentions(join(path, name), uses, env[name])
	}
}

// uses checks the secrets that a command gets.
func (v *validator) uses(path string, uses []SecretUse) {
	files, envs := map[string]bool{}, map[string]bool{}
	for i, use := range uses {
		p := fmt.Sprintf("%s[%d]", path, i)
		v.secretReference(p, use.ID)
		file := use.Target
		if file == "" {
			file = "/run/secrets/" + use.ID
		} else {
			v.mountPoint(p+".target", file)
		}
		if use.Env != "" && !identifier.MatchString(use.Env) {
			v.fail(p+".env", "%q cannot be the name of an environment variable", use.Env)
		}
		switch {
		case files[file]:
			v.fail(p, "there is a secret at %s already", file)
		case use.Env != "" && envs[use.Env]:
			v.fail(p+".env", "there is a secret in the variable %s already", use.Env)
		}
		files[file], envs[use.Env] = true, true
	}
}

// secretReference checks the id of a secret that something uses.
func (v *validator) secretReference(path, id string) {
	if _, ok := v.r.Secrets[id]; ok || v.unsureSecrets {
		return
	}
	e := v.fail(path, "there is no secret %q; declare it under secrets:", id)
	if !v.errs.full() {
		e.Suggestion = closest(id, slices.Sorted(maps.Keys(v.r.Secrets)))
	}
}
