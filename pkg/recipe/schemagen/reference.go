package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

const introduction = `<!-- Generated from pkg/recipe/recipe.go by 'go generate ./pkg/recipe'. -->

# The recipe

A recipe is one YAML file, ` + "`pdibuild.yaml`" + `. ` + "`pdibuild init`" + ` writes one to start with,
` + "`pdibuild validate`" + ` checks one and reports everything that is wrong at once, and
` + "`pdibuild schema`" + ` prints the JSON Schema with which editors complete and check it.

Where a string is expected, a number or a truth value is taken as it is written, so
that ` + "`mode: 0755`" + `, ` + "`expose: [8080]`" + ` and ` + "`version: 1.10`" + ` in labels need no quotes.
Where a list of strings is expected, a single string is a list of one. A command is
a string for the stage's shell or a list: the program and its arguments.

`

// reference makes the Markdown reference.
func (m *model) reference() []byte {
	var out strings.Builder
	out.WriteString(introduction)
	out.WriteString("```yaml\n" + wholeExample + "```\n")
	for _, t := range m.types {
		if t.verb == "" {
			t.reference(&out, "## "+title(t.name))
		}
		if t.name == "Stage" {
			out.WriteString("\n## Steps\n\nEach step is a map with one of these verbs; the other keys belong to it.\n")
			for _, s := range m.steps() {
				fmt.Fprintf(&out, "- [%s](#%s)\n", s.verb, anchor(s.verb))
			}
			for _, s := range m.steps() {
				s.reference(&out, "### "+s.verb)
				out.WriteString("\n```yaml\nsteps:\n" + examples()[s.verb] + "```\n")
			}
		}
	}
	out.WriteString(rules)
	return []byte(out.String())
}

// title is how a type is called in the reference.
func title(name string) string {
	switch name {
	case "SecretUse":
		return "Secret of a run step"
	case "UserSpec":
		return "User to create"
	case "SpackInstall":
		return "Spack installation"
	case "SpackSource":
		return "Spack source"
	}
	return name
}

func anchor(title string) string {
	return strings.ReplaceAll(strings.ToLower(title), " ", "-")
}

func (t typeInfo) reference(out *strings.Builder, heading string) {
	fmt.Fprintf(out, "\n%s\n\n%s\n\n| Key | Type | Required | Description |\n|---|---|---|---|\n", heading, t.doc)
	for _, f := range t.fields {
		required := "no"
		if f.required {
			required = "yes"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", f.key, typeName(f.typ), required, cell(f.doc))
	}
}

// cell is a text in a table, in which names in capitals and ${…} are no
// Markdown of their own.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}

// typeName says in words what a key takes.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[recipe.Command]():
		return "command"
	case reflect.TypeFor[recipe.Step]():
		return "[step](#steps)"
	case reflect.TypeFor[environment]():
		return "path or map"
	case reflect.TypeFor[recipe.SecretUse](), reflect.TypeFor[recipe.UserSpec]():
		return "string or [map](#" + anchor(title(t.Name())) + ")"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "list of: " + typeName(t.Elem())
	case reflect.Map:
		return "map of name to: " + typeName(t.Elem())
	}
	return "[map](#" + anchor(title(t.Name())) + ")"
}
