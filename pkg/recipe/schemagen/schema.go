package main

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// An object is a JSON object. Its keys are written in alphabetical order.
type object = map[string]any

// schema makes the JSON Schema.
func (m *model) schema() ([]byte, error) {
	defs := object{
		// What YAML takes for a number is taken as the text that it is.
		"Text":     object{"type": []string{"string", "number", "boolean"}},
		"TextList": object{"anyOf": []any{ref("Text"), object{"type": "array", "items": ref("Text")}}},
		"TextMap":  object{"type": "object", "additionalProperties": ref("Text")},
		"Command": object{
			"description": "A string for the stage's shell, or a list of strings: the program and its arguments.",
			"anyOf":       []any{ref("Text"), object{"type": "array", "items": ref("Text"), "minItems": 1}},
		},
		"SpackEnvironment": object{"anyOf": []any{ref("Text"), object{"type": "object"}}},
	}
	var steps []any
	for _, t := range m.steps() {
		steps = append(steps, ref(t.name))
	}
	defs["Step"] = object{"description": "One change to a stage.", "oneOf": steps}
	for _, t := range m.types {
		defs[t.name] = t.schema()
	}
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "pdibuild recipe",
		"$ref":    "#/$defs/Recipe",
		"$defs":   defs,
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(data, '\n'), nil
}

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

// schema is that of a map with the type's keys. Types that are a text, too,
// allow it.
func (t typeInfo) schema() object {
	properties := object{}
	required := []string{}
	for _, f := range t.fields {
		s := schemaOf(f.typ)
		s["description"] = f.doc
		properties[f.key] = s
		if f.required {
			required = append(required, f.key)
		}
	}
	if version, ok := properties["version"].(object); ok && t.name == "Recipe" {
		version["const"] = recipe.Version
	}
	s := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	if t.name == "SecretUse" || t.name == "UserSpec" {
		s = object{"anyOf": []any{ref("Text"), s}}
	}
	s["description"] = t.doc
	return s
}

// schemaOf is the schema of a field.
func schemaOf(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[recipe.Step]():
		return ref("Step")
	case reflect.TypeFor[environment]():
		return ref("SpackEnvironment")
	case reflect.TypeFor[[]string]():
		return ref("TextList")
	case reflect.TypeFor[map[string]string]():
		return ref("TextMap")
	}
	switch t.Kind() {
	case reflect.String:
		return ref("Text")
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	}
	return ref(t.Name())
}
