package main

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A model is what there is to say about the types of a recipe, in the order of
// the source.
type model struct {
	types []typeInfo
}

type typeInfo struct {
	name, doc string
	// verb is set for steps.
	verb   string
	fields []fieldInfo
}

type fieldInfo struct {
	key, doc string
	required bool
	typ      reflect.Type
}

// values has one value of each type that is a map in YAML.
func values() []any {
	return []any{
		recipe.Recipe{},
		recipe.Secret{},
		recipe.Stage{},
		recipe.Bootstrap{},
		recipe.Compiler{},
		recipe.Run{},
		recipe.SecretUse{},
		recipe.Mount{},
		recipe.Copy{},
		recipe.File{},
		recipe.Env{},
		recipe.Workdir{},
		recipe.User{},
		recipe.UserSpec{},
		recipe.Check{},
		recipe.Spack{},
		recipe.SpackInstall{},
		recipe.SpackSource{},
		recipe.Buildcache{},
		recipe.Environment{},
	}
}

// newModel joins the types with the comments in the source.
func newModel(source string) (*model, error) {
	docs, err := readDocs(source)
	if err != nil {
		return nil, err
	}
	m := &model{}
	for _, value := range values() {
		t := reflect.TypeOf(value)
		info := typeInfo{name: t.Name(), doc: docs[t.Name()]}
		if step, ok := value.(recipe.Step); ok {
			info.verb = step.Verb()
		}
		for i := range t.NumField() {
			if f, ok := field(t.Field(i), docs[t.Name()+"."+t.Field(i).Name]); ok {
				info.fields = append(info.fields, f)
			}
		}
		if t == reflect.TypeFor[recipe.SpackInstall]() {
			// One key for two fields, which therefore have no tag.
			info.fields = append([]fieldInfo{{
				key: "environment", required: true, typ: reflect.TypeFor[environment](),
				doc: "The path of a spack.yaml in the context, or the Spack environment itself.",
			}}, info.fields...)
		}
		if err := info.check(); err != nil {
			return nil, err
		}
		m.types = append(m.types, info)
	}
	return m, m.checkTypes(docs)
}

// An environment stands for a path or an inline Spack environment.
type environment struct{}

func field(f reflect.StructField, doc string) (fieldInfo, bool) {
	tag, ok := f.Tag.Lookup("yaml")
	if !ok {
		return fieldInfo{}, false
	}
	key, options, _ := strings.Cut(tag, ",")
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return fieldInfo{key: key, doc: forYAML(f.Name, doc), required: options != "omitempty", typ: t}, true
}

// forYAML turns a field's comment into a description: the key stands before it,
// so a field's name that is the subject goes, with its verb.
func forYAML(name, doc string) string {
	rest, ok := strings.CutPrefix(doc, name+" ")
	first, _, _ := strings.Cut(rest, " ")
	if ok && !slices.Contains([]string{"of", "by", "in", "for", "to", "that", "which", "may", "secrets", "packages"}, first) {
		for _, verb := range []string{"is ", "are ", "has ", "says "} {
			rest = strings.TrimPrefix(rest, verb)
		}
		value, _, _ := strings.Cut(rest, " ")
		if doc = rest; !strings.ContainsAny(value, "/:") && value != "bind" {
			doc = strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return strings.NewReplacer("Empty means ", "Default: ", "Zero means ", "Default: ").Replace(doc)
}

func (t typeInfo) check() error {
	if t.doc == "" {
		return fmt.Errorf("type %s has no comment", t.name)
	}
	for _, f := range t.fields {
		if f.doc == "" {
			return fmt.Errorf("the field of type %s with the key %q has no comment", t.name, f.key)
		}
	}
	return nil
}

// checkTypes reports types of the source that values lacks. Command and Step
// have forms of their own.
func (m *model) checkTypes(docs map[string]string) error {
	for name := range docs {
		known := slices.ContainsFunc(m.types, func(t typeInfo) bool { return t.name == name })
		if !known && !strings.Contains(name, ".") && name != "Command" && name != "Step" {
			return fmt.Errorf("type %s is in no list; add it to values", name)
		}
	}
	return nil
}

// steps are the types of the steps.
func (m *model) steps() []typeInfo {
	var steps []typeInfo
	for _, t := range m.types {
		if t.verb != "" {
			steps = append(steps, t)
		}
	}
	return steps
}

// readDocs returns the comments of a file's types and their fields, by Type
// and Type.Field.
func readDocs(source string) (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read comments: %w", err)
	}
	docs := map[string]string{}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			docs[t.Name.Name] = plain(g.Doc)
			s, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					docs[t.Name.Name+"."+name.Name] = plain(f.Doc)
				}
			}
		}
	}
	return docs, nil
}

// plain is a comment on one line.
func plain(g *ast.CommentGroup) string {
	var p comment.Parser
	text := (&comment.Printer{TextWidth: -1}).Text(p.Parse(g.Text()))
	return strings.Join(strings.Fields(string(text)), " ")
}
