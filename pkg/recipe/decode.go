package recipe

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A decoder fills a Recipe from YAML nodes by reflection over the yaml tags.
// Unlike the library's own decoding it reports every problem with its place,
// also inside the values that may be written in two ways.
type decoder struct {
	file  string
	lines []string
	errs  Errors
	// nodes remembers where each value came from, by its path.
	nodes map[string]*yaml.Node
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) *Error {
	e := d.at(n.Line, n.Column, fmt.Sprintf(format, args...))
	d.errs = append(d.errs, e)
	return e
}

// steps are the verbs, in the order in which messages name them.
var steps = []Step{Run{}, Copy{}, File{}, Env{}, Workdir{}, User{}, Check{}, Spack{}, Environment{}}

func verbs() []string {
	var v []string
	for _, s := range steps {
		v = append(v, s.Verb())
	}
	return v
}

func (d *decoder) recipe(n *yaml.Node, r *Recipe) {
	d.value(n, reflect.ValueOf(r).Elem(), "")
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// The types that have a form of their own in YAML.
var (
	commandType   = reflect.TypeFor[Command]()
	stepType      = reflect.TypeFor[Step]()
	secretUseType = reflect.TypeFor[SecretUse]()
	userSpecType  = reflect.TypeFor[UserSpec]()
	installType   = reflect.TypeFor[SpackInstall]()
)

// value decodes n into v, whose path in the recipe is path.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	n = resolve(n)
	d.nodes[path] = n
	switch v.Type() {
	case commandType:
		d.command(n, v, path)
		return
	case stepType:
		d.step(n, v, path)
		return
	case secretUseType, userSpecType:
		if n.Kind == yaml.ScalarNode {
			d.scalar(n, v.Field(0))
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	default:
		d.scalar(n, v)
	}
}

// command takes a string or a list of strings.
func (d *decoder) command(n *yaml.Node, v reflect.Value, path string) {
	switch n.Kind {
	case yaml.ScalarNode:
		d.scalar(n, v.FieldByName("Shell"))
	case yaml.SequenceNode:
		d.list(n, v.FieldByName("Argv"), path)
	default:
		d.fail(n, "must be a command: a string for the shell or a list of strings")
	}
}

// step finds the verb of a step and decodes the rest as that verb's fields.
func (d *decoder) step(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "must be a step such as 'run: make'; the verbs are %s", strings.Join(verbs(), ", "))
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, "is an empty step; the verbs are %s", strings.Join(verbs(), ", "))
		return
	}
	s := d.verb(n)
	if s == nil {
		return
	}
	p := reflect.New(reflect.TypeOf(s)).Elem()
	d.structure(n, p, path)
	v.Set(p)
}

// verb finds the step's kind. The first key decides where several would do:
// "env" is a verb and a field of run, "environment" and "user" likewise.
func (d *decoder) verb(n *yaml.Node) Step {
	var found Step
	var names []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		j := slices.IndexFunc(steps, func(s Step) bool { return s.Verb() == key })
		if j < 0 || (found != nil && slices.Contains(fieldNames(reflect.TypeOf(found)), key)) {
			continue
		}
		names = append(names, key)
		if found == nil || slices.Contains(fieldNames(reflect.TypeOf(steps[j])), found.Verb()) {
			found = steps[j]
			continue
		}
		d.fail(n.Content[i], "a step has one verb, and this one has %s; write two steps", strings.Join(names, " and "))
		return nil
	}
	if found == nil {
		first := n.Content[0]
		e := d.fail(first, "%q is not a step; the verbs are %s", first.Value, strings.Join(verbs(), ", "))
		e.Suggestion = closest(first.Value, verbs())
	}
	return found
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	if t == installType {
		names = append([]string{"environment"}, names...)
	}
	return names
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func fieldByName(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if fieldName(v.Type().Field(i)) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "must be a map with the keys %s, not %s", strings.Join(fieldNames(v.Type()), ", "), kindOf(n))
		return
	}
	d.keys(n, path, func(key, value *yaml.Node, sub string) {
		if v.Type() == installType && key.Value == "environment" {
			d.inlineEnvironment(value, v, sub)
			return
		}
		field, ok := fieldByName(v, key.Value)
		if !ok {
			names := fieldNames(v.Type())
			e := d.fail(key, "unknown key %q; the keys here are %s", key.Value, strings.Join(names, ", "))
			e.Suggestion = closest(key.Value, names)
			return
		}
		d.value(value, field, sub)
	})
}

// inlineEnvironment takes a path or the environment itself.
func (d *decoder) inlineEnvironment(n *yaml.Node, v reflect.Value, path string) {
	n = resolve(n)
	d.nodes[path] = n
	if n.Kind == yaml.ScalarNode {
		d.scalar(n, v.FieldByName("Environment"))
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "must be the path of a spack.yaml or an environment, not %s", kindOf(n))
		return
	}
	var inline map[string]any
	if err := n.Decode(&inline); err != nil {
		d.fail(n, "must be a Spack environment: %v", err)
		return
	}
	v.FieldByName("Inline").Set(reflect.ValueOf(inline))
}

// keys calls f for each key of a map, and reports keys that are there twice.
func (d *decoder) keys(n *yaml.Node, path string, f func(key, value *yaml.Node, sub string)) {
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, "a key must be a word")
			continue
		}
		if key.Value == "<<" && key.Tag == "!!merge" {
			d.fail(key, "merge keys (<<) are not supported; repeat the values")
			continue
		}
		if first, ok := seen[key.Value]; ok {
			d.fail(key, "the key %q is there already, on line %d", key.Value, first.Line)
			continue
		}
		seen[key.Value] = key
		f(key, value, join(path, key.Value))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// list takes a list; a single value stands for a list of one where strings
// are wanted.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	items := n.Content
	if n.Kind != yaml.SequenceNode {
		if v.Type().Elem().Kind() != reflect.String || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			d.fail(n, "must be a list, not %s", kindOf(n))
			return
		}
		items = []*yaml.Node{n}
	}
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	for i, item := range items {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(item, e, fmt.Sprintf("%s[%d]", path, i))
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "must be a map, not %s", kindOf(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	d.keys(n, path, func(key, value *yaml.Node, sub string) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(value, e, sub)
		out.SetMapIndex(reflect.ValueOf(key.Value), e)
	})
	v.Set(out)
}

// scalar takes a single value. Where text is wanted, a number or a truth
// value is taken as it is written: a port 8080, a label 1.0, a mode 0755.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "must be %s, not %s", wanted(v), kindOf(n))
		return
	}
	if n.Tag == "!!null" {
		d.fail(n, "must be %s, but nothing is here; write \"\" for an empty text", wanted(v))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if n.Tag != "!!bool" || n.Decode(&b) != nil {
			d.fail(n, "must be true or false, not %q", n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Tag != "!!int" || err != nil {
			d.fail(n, "must be a whole number, not %q", n.Value)
			return
		}
		v.SetInt(i)
	default:
		d.fail(n, "cannot be decoded")
	}
}

func wanted(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "a text"
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return fmt.Sprintf("%q", n.Value)
}
