package recipe

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/internal/yamlfile"

	"gopkg.in/yaml.v3"
)

// A decoder fills a Recipe from YAML nodes by reflection over the yaml tags.
// Unlike the library's own decoding it reports every problem with its place,
// also inside the values that may be written in two ways.
type decoder struct {
	file string
	doc  yamlfile.File
	errs Errors
	// nodes remembers where each value came from, by its path.
	nodes map[string]*yaml.Node
	// broken are the paths whose values could not be decoded. What validation
	// has to say about them would only repeat that.
	broken map[string]bool
}

// fail reports that the value at path, written at n, is wrong.
func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) *Error {
	d.broken[path] = true
	e := d.at(n.Line, n.Column, subject(path, fmt.Sprintf(format, args...)))
	e.Path = path
	d.errs.add(e)
	return e
}

// allSteps has one step of each kind, in the order in which messages name
// the verbs.
func allSteps() []Step {
	return []Step{Run{}, Copy{}, File{}, Env{}, Workdir{}, User{}, Check{}, Spack{}, Environment{}}
}

func verbs() []string {
	var v []string
	for _, s := range allSteps() {
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

// value decodes n into v, whose path in the recipe is path.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	n = resolve(n)
	d.nodes[path] = n
	switch v.Type() {
	case reflect.TypeFor[Command]():
		d.command(n, v, path)
		return
	case reflect.TypeFor[Step]():
		d.step(n, v, path)
		return
	case reflect.TypeFor[SecretUse](), reflect.TypeFor[UserSpec]():
		if n.Kind == yaml.ScalarNode {
			d.scalar(n, v.Field(0), path)
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
		d.scalar(n, v, path)
	}
}

// command takes a string or a list of strings.
func (d *decoder) command(n *yaml.Node, v reflect.Value, path string) {
	switch n.Kind {
	case yaml.ScalarNode:
		d.scalar(n, v.FieldByName("Shell"), path)
	case yaml.SequenceNode:
		d.list(n, v.FieldByName("Argv"), path)
	default:
		d.fail(n, path, "must be a command: a string for the shell or a list of strings")
	}
	if v.IsZero() {
		v.FieldByName("Argv").Set(reflect.ValueOf([]string{})) // it was given, and is empty
	}
}

// step finds the verb of a step and decodes the rest as that verb's fields.
func (d *decoder) step(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be a step such as 'run: make', not %s; the verbs are %s", kindOf(n), strings.Join(verbs(), ", "))
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, path, "is an empty step; the verbs are %s", strings.Join(verbs(), ", "))
		return
	}
	s := d.verb(n, path)
	if s == nil {
		return
	}
	p := reflect.New(reflect.TypeOf(s)).Elem()
	d.structure(n, p, path)
	v.Set(p)
}

// verb finds the step's kind: the verb among the keys to which all other
// verbs are fields, for "env", "user" and "workdir" are steps and fields of
// run, too.
func (d *decoder) verb(n *yaml.Node, path string) Step {
	var found []Step
	var keys []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		j := slices.Index(verbs(), key.Value)
		if j < 0 || key.Kind != yaml.ScalarNode || slices.ContainsFunc(keys, func(k *yaml.Node) bool { return k.Value == key.Value }) {
			continue
		}
		found, keys = append(found, allSteps()[j]), append(keys, key)
	}
	for _, s := range found {
		fields := fieldNames(reflect.TypeOf(s))
		if !slices.ContainsFunc(keys, func(k *yaml.Node) bool { return !slices.Contains(fields, k.Value) }) {
			return s
		}
	}
	if len(found) > 0 {
		e := d.fail(keys[1], path, "a step has one verb, and this one has %s and %s; write two steps", keys[0].Value, keys[1].Value)
		e.Path = join(path, keys[1].Value)
		return nil
	}
	first := resolve(n.Content[0])
	e := d.fail(first, path, "%q is not a step; the verbs are %s", first.Value, strings.Join(verbs(), ", "))
	for i := 0; i+1 < len(n.Content) && e.Suggestion == ""; i += 2 {
		e.Suggestion = closest(resolve(n.Content[i]).Value, verbs())
	}
	return nil
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	if t == reflect.TypeFor[SpackInstall]() {
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
		d.fail(n, path, "must be a map with the keys %s, not %s", strings.Join(fieldNames(v.Type()), ", "), kindOf(n))
		return
	}
	d.keys(n, path, func(key, value *yaml.Node, sub string) {
		if v.Type() == reflect.TypeFor[SpackInstall]() && key.Value == "environment" {
			d.spackEnvironment(value, v, sub)
			return
		}
		field, ok := fieldByName(v, key.Value)
		if !ok {
			names := fieldNames(v.Type())
			e := d.fail(key, sub, "unknown key %q; the keys here are %s", key.Value, strings.Join(names, ", "))
			if d.errs.full() {
				return
			}
			if e.Suggestion = closest(key.Value, names); e.Suggestion != "" {
				d.broken[join(path, e.Suggestion)] = true
			}
			return
		}
		d.value(value, field, sub)
	})
	d.required(n, v.Type(), path)
}

// required reports keys that are missing. For recipes and stages, validation
// says it with more words.
func (d *decoder) required(n *yaml.Node, t reflect.Type, path string) {
	if t == reflect.TypeFor[Recipe]() || t == reflect.TypeFor[Stage]() {
		return
	}
	for i := range t.NumField() {
		name := fieldName(t.Field(i))
		optional := name == "" || strings.HasSuffix(t.Field(i).Tag.Get("yaml"), ",omitempty")
		if _, ok := d.nodes[join(path, name)]; optional || ok || d.broken[join(path, name)] {
			continue
		}
		d.fail(n, join(path, name), "the key %q is missing", name)
	}
}

// keys calls f for each key of a map, and reports keys that are there twice.
func (d *decoder) keys(n *yaml.Node, path string, f func(key, value *yaml.Node, sub string)) {
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, "a key must be a word, not %s; quote it if it begins with { or [", kindOf(key))
			continue
		}
		if key.Tag == "!!merge" {
			d.fail(key, path, "merge keys (<<) are not supported; repeat the values")
			continue
		}
		if first, ok := seen[key.Value]; ok {
			d.fail(key, join(path, key.Value), "the key %q is there already, on line %d", key.Value, first.Line)
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
// are wanted. An empty list is no list, so that there is one form for both;
// only a command keeps it, to be told that it is empty.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	items := n.Content
	if n.Kind != yaml.SequenceNode {
		if v.Type().Elem().Kind() != reflect.String || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			d.fail(n, path, "must be a list, not %s", kindOf(n))
			return
		}
		items = []*yaml.Node{n}
	}
	if len(items) == 0 {
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

// mapping takes a map; an empty one is no map.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be a map, not %s", kindOf(n))
		return
	}
	if len(n.Content) == 0 {
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
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "must be %s, not %s", wanted(v), kindOf(n))
		return
	}
	if n.Tag == "!!null" {
		d.fail(n, path, "must be %s, but nothing is here%s", wanted(v), emptyHint(v))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if n.Tag != "!!bool" || n.Decode(&b) != nil {
			d.fail(n, path, "must be true or false, not %q", n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Tag != "!!int" || err != nil {
			hint := ""
			if err == nil {
				hint = " as text; remove the quotes"
			}
			d.fail(n, path, "must be a whole number, not %q%s", n.Value, hint)
			return
		}
		v.SetInt(i)
	default:
		d.fail(n, path, "cannot be decoded")
	}
}

func emptyHint(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return `; write "" for an empty text`
	}
	return ""
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
