package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestGeneratedFilesAreCurrent(t *testing.T) {
	generated, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range generated {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say; run 'go generate ./pkg/recipe'", filepath.Base(name))
		}
	}
	if !bytes.Equal(recipe.Schema(), generated[schemaFile]) {
		t.Error("recipe.Schema returns something else than is generated")
	}
}

func TestExamplesAreValid(t *testing.T) {
	if _, err := recipe.Parse("example", []byte(wholeExample)); err != nil {
		t.Error(err)
	}
	m, err := newModel("../recipe.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range m.steps() {
		example, ok := examples()[step.verb]
		if !ok {
			t.Errorf("the step %s has no example", step.verb)
			continue
		}
		text := "version: 1\nargs: {VERSION: 1.2}\nsecrets: {token: {}}\nstages:\n" +
			"- {name: build, from: debian, steps: [{spack: {environment: spack.yaml}}]}\n- name: final\n  from: debian\n  steps:\n" + example
		r, err := recipe.Parse("example", []byte(text))
		if err != nil {
			t.Errorf("%v\nin:\n%s", err, text)
			continue
		}
		for _, s := range r.Stages[1].Steps {
			if s.Verb() != step.verb {
				t.Errorf("the example of %s has a step %s", step.verb, s.Verb())
			}
		}
	}
}

// Every key of the schema that is required is one without which Parse fails,
// and every object refuses keys that it does not have, as Parse does.
func TestSchemaSaysWhatParseDoes(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Type                 any
			AdditionalProperties any
			Required             []string
			Properties           map[string]any
			OneOf                []map[string]string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(recipe.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	steps := schema.Defs["Step"].OneOf
	if len(steps) != 9 {
		t.Errorf("the schema has %d steps: %v", len(steps), steps)
	}
	for _, step := range steps {
		name := strings.TrimPrefix(step["$ref"], "#/$defs/")
		def := schema.Defs[name]
		if verb := strings.ToLower(name); !slices.Contains(def.Required, verb) {
			t.Errorf("the step %s does not require %q, only %v", name, verb, def.Required)
		}
	}
	for name, def := range schema.Defs {
		if def.Type == "object" && len(def.Properties) > 0 && def.AdditionalProperties != false {
			t.Errorf("%s takes unknown keys", name)
		}
	}
	for _, key := range []string{"version", "stages"} {
		if !slices.Contains(schema.Defs["Recipe"].Required, key) {
			t.Errorf("a recipe does not require %q", key)
		}
	}
}

func TestMissingCommentsAreErrors(t *testing.T) {
	source := filepath.Join(t.TempDir(), "recipe.go")
	if err := os.WriteFile(source, []byte("package recipe\n\ntype Recipe struct{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newModel(source); err == nil || !strings.Contains(err.Error(), "Recipe has no comment") {
		t.Errorf("a type without a comment: %v", err)
	}
}
