package recipe

import (
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
		if _, ok := v.r.Args[ref.name]; ok || ref.hasDefault || kind != inText {
			return nil
		}
		e := v.fail(path, "there is no argument %q; declare it under args: or give it a default, ${%s:-default}", ref.name, ref.name)
		e.Suggestion = closest(ref.name, slices.Sorted(maps.Keys(v.r.Args)))
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

func (v *validator) storedFile(path, text string) {
	for id := range v.r.Secrets {
		if mentionsSecret(text, id) {
			v.fail(path, "/run/secrets/%s would be stored in the image, and is only there while a run step has 'secrets: [%s]'", id, id)
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
	for _, id := range slices.Sorted(maps.Keys(v.r.Secrets)) {
		if id == name || v.r.Secrets[id].Env == name {
			return id, true
		}
	}
	return "", false
}

// mentionsSecret says whether text has the path of the secret, and not that of
// another one that begins in the same way.
func mentionsSecret(text, id string) bool {
	for {
		_, after, ok := strings.Cut(text, "/run/secrets/")
		if !ok {
			return false
		}
		word := after
		if end := strings.IndexFunc(after, func(r rune) bool { return !secretRune(r) }); end >= 0 {
			word = after[:end]
		}
		if word == id || strings.TrimRight(word, ".-") == id {
			return true
		}
		text = after
	}
}

func secretRune(r rune) bool {
	return r == '_' || r == '.' || r == '-' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
}

// mentions reports secrets that a command reads without having them.
func (v *validator) mentions(path string, c Command, uses []SecretUse) {
	text := strings.Join(append([]string{c.Shell}, c.Argv...), " ")
	for _, id := range slices.Sorted(maps.Keys(v.r.Secrets)) {
		has := slices.ContainsFunc(uses, func(u SecretUse) bool { return u.ID == id })
		if !has && mentionsSecret(text, id) {
			v.fail(path, "reads /run/secrets/%s, which is there only with 'secrets: [%s]' on a run step", id, id)
		}
	}
}
