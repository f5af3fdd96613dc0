package recipe_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Whatever text a program puts into a recipe comes back from the canonical
// form as it was.
func TestMarshalKeepsTexts(t *testing.T) {
	for _, text := range []string{
		"plain", "", " ", "  lead", "trail  ", "\n", "\n\n", "\n  a", "  a\nb", "a\n", "a\n\n\n", "a\n \n", " \na", "a\n\tb\n",
		"\ttab", "a\tb", "\ta\nb", "a\rb", "a\r\nb\r\n", "a\u0085b", "a\u2028b\u2029c", "\ufeffbom", "a\u00a0b", "\x1b[31mred", "bell\a",
		"a: b", "a #b", "# c", "- a", "? a", "& a", "*a", "!a", "|", ">", "%a", "@a", "`a", "[a", "{a", "'a", "\"a", "a:", ":", "a\\nb",
		"~", "null", "true", "no", "1", "1.0", "0x1F", "0755", "1e3", ".nan", "2026-01-01", "<<", "=", "---", "...", "--- a", "a\n---\nb", "a\n...\n",
		"日本語\nzwei\n", "😀", strings.Repeat("long words ", 50), strings.Repeat("long words \n", 50),
	} {
		r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{{
			Name: "a", From: "scratch", Labels: map[string]string{"x": text, "k" + text: "y"},
			Steps: []recipe.Step{
				recipe.File{Path: "/f", Content: text},
				recipe.Run{Command: recipe.Exec("echo", text)},
				recipe.Spack{Spack: recipe.SpackInstall{Inline: map[string]any{"a": text, "l": []any{text, map[string]any{"m": text}}}}},
			},
		}}}
		roundTrip(t, r)
	}
}

func TestMarshalRefuses(t *testing.T) {
	if _, err := recipe.Marshal(nil); err == nil {
		t.Error("no recipe has a canonical form")
	}
	if _, err := recipe.CanonicalStep(nil); err == nil {
		t.Error("no step has a canonical form")
	}
	if text, err := recipe.CanonicalStep(recipe.File{Path: "/f", Content: "a\xffb"}); err == nil {
		t.Errorf("bytes that are not UTF-8 become %q", text)
	}
}

// The order in which a map is made or read does not matter, everything else
// does.
func TestCanonicalStepTellsStepsApart(t *testing.T) {
	seen := map[string]recipe.Step{}
	for _, s := range []recipe.Step{
		recipe.Run{Command: recipe.Script("make")},
		recipe.Run{Command: recipe.Exec("make")},
		recipe.Run{Command: recipe.Script("make"), Network: "none"},
		recipe.Run{Command: recipe.Script("make"), Secrets: []recipe.SecretUse{{ID: "a"}}},
		recipe.Run{Command: recipe.Script("make"), Secrets: []recipe.SecretUse{{ID: "a", Env: "A"}}},
		recipe.Run{Command: recipe.Script("make"), Env: map[string]string{"A": "1", "B": "2"}},
		recipe.Run{Command: recipe.Script("make"), Env: map[string]string{"A": "2", "B": "1"}},
		recipe.Check{Command: recipe.Script("make")},
		recipe.File{Path: "/f", Content: "a"},
		recipe.File{Path: "/f", Content: "a\n"},
		recipe.File{Path: "/f", Content: "1"},
		recipe.User{User: recipe.UserSpec{Name: "pdi"}},
		recipe.User{User: recipe.UserSpec{Name: "pdi", UID: 1}},
		recipe.Spack{Spack: recipe.SpackInstall{Environment: "a"}},
		recipe.Spack{Spack: recipe.SpackInstall{Inline: map[string]any{"a": 1}}},
		recipe.Spack{Spack: recipe.SpackInstall{Inline: map[string]any{"a": "1"}}},
		recipe.Workdir{Workdir: "/a"},
		recipe.Environment{From: "a"},
		recipe.Env{Env: map[string]string{"workdir": "/a"}},
	} {
		first, err := recipe.CanonicalStep(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := recipe.CanonicalStep(s)
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("%#v has two canonical forms (%v):\n%s\n%s", s, err, first, again)
		}
		if other, ok := seen[string(first)]; ok {
			t.Errorf("%#v and %#v have one canonical form:\n%s", s, other, first)
		}
		seen[string(first)] = s
	}
}

// Substitute makes a copy that shares nothing with the recipe.
func TestSubstituteCopies(t *testing.T) {
	r, err := recipe.LoadFile("testdata/valid/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, err := recipe.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Substitute(nil)
	if err != nil {
		t.Fatal(err)
	}
	scribble(reflect.ValueOf(c))
	after, err := recipe.Marshal(r)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a change of the copy changed the recipe (%v):\n%s", err, after)
	}
}

// scribble changes every list, map and pointed-to value in place.
func scribble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			scribble(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scribble(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			scribble(v.Index(i))
			v.Index(i).SetZero()
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			scribble(v.MapIndex(k))
			v.SetMapIndex(k, reflect.Value{})
		}
	}
}
