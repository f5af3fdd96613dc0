package spack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spelling"
	"github.com/pdidev/pdibuild/internal/yamlfile"

	"gopkg.in/yaml.v3"
)

// environmentFile is what spack.yaml is as a YAML file.
var environmentFile = yamlfile.Kind{
	Name: "an environment", Empty: "is empty; an environment begins with 'spack:'", MaxNodes: 1 << 18, Tags: true,
}

// A decoder takes the values out of YAML nodes and collects what is wrong
// with them.
type decoder struct {
	file string
	doc  yamlfile.File
	errs Errors
}

// parse makes the node tree of one document.
func (d *decoder) parse(data []byte) (*yaml.Node, error) {
	var problem *yamlfile.Problem
	if d.doc, problem = yamlfile.Parse(data, environmentFile); problem != nil {
		return nil, Errors{d.at(&yaml.Node{Line: problem.Line, Column: problem.Column}, problem.Message)}
	}
	return d.doc.Root, nil
}

func (d *decoder) at(n *yaml.Node, message string) *Error {
	return &Error{File: d.file, Line: n.Line, Column: n.Column, Message: message, Source: d.doc.Source(n.Line)}
}

// fail reports that the value at path, written at n, is wrong.
func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.suggest(n, path, "", fmt.Sprintf(format, args...))
}

// suggest is fail with what may have been meant.
func (d *decoder) suggest(n *yaml.Node, path, suggestion, message string) {
	e := d.at(n, cmp.Or(path, "spack")+": "+message)
	e.Path, e.Suggestion = path, suggestion
	if len(d.errs) <= maxErrors {
		d.errs = append(d.errs, e)
	}
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// sectionName is a key without Spack's marks for how it is merged with what
// other files say: "packages:" overrides, "packages+" and "packages-" append
// and prepend.
func sectionName(key string) string {
	key = strings.TrimSuffix(key, ":")
	if len(key) > 1 && (strings.HasSuffix(key, "+") || strings.HasSuffix(key, "-")) {
		key = key[:len(key)-1]
	}
	return key
}

// lookup returns the index in n.Content of the value of a key, or -1.
func lookup(n *yaml.Node, key string) int {
	if n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if sectionName(n.Content[i].Value) == key {
			return i + 1
		}
	}
	return -1
}

// A reader takes the value of one key.
type reader func(n *yaml.Node, path string)

// mapping calls the reader of each key of a map. Keys without a reader are an
// error if the map is strict; otherwise they are Spack's business. Nothing at
// all is an empty map.
func (d *decoder) mapping(n *yaml.Node, path string, strict bool, readers map[string]reader) {
	d.eachPair(n, path, func(key, value *yaml.Node, path string) {
		name := sectionName(key.Value)
		if read := readers[name]; read != nil {
			read(value, path)
		} else if strict {
			names := make([]string, 0, len(readers))
			for k := range readers {
				names = append(names, k)
			}
			slices.Sort(names)
			parent := path[:max(0, len(path)-len(name)-1)]
			d.suggest(key, parent, spelling.Closest(name, names), fmt.Sprintf("has no key %q", key.Value))
		}
	})
}

// eachPair visits a map's pairs in the order of the file.
func (d *decoder) eachPair(n *yaml.Node, path string, visit func(key, value *yaml.Node, path string)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be a map of keys and values, not %s", kindName(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		name := sectionName(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fail(key, path, "a key must be a text")
		case key.Value == "<<":
			d.fail(key, path, "merge keys (<<) are not supported here; write the keys out")
		case seen[name]:
			d.fail(key, path, "%q is there twice", name)
		default:
			seen[name] = true
			visit(key, resolve(n.Content[i+1]), join(path, name))
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// text takes a string. A number where a text is wanted would reach Spack as a
// number, which it refuses.
func (d *decoder) text(to *string) reader {
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		switch {
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
			*to = n.Value
		case n.Kind == yaml.ScalarNode && !isNull(n):
			d.fail(n, path, "must be a text; write %q", n.Value)
		default:
			d.fail(n, path, "must be a text, not %s", kindName(n))
		}
	}
}

// oneOf takes one of some words.
func (d *decoder) oneOf(to *string, words ...string) reader {
	return func(n *yaml.Node, path string) {
		before := len(d.errs)
		d.text(to)(n, path)
		if len(d.errs) == before && !slices.Contains(words, *to) {
			message := fmt.Sprintf("must be one of %s, not %q", strings.Join(words, ", "), *to)
			d.suggest(n, path, spelling.Closest(*to, words), message)
		}
	}
}

func (d *decoder) flag(to *bool) reader {
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			d.fail(n, path, "must be true or false, not %s", kindName(n))
			return
		}
		*to = strings.EqualFold(n.Value, "true")
	}
}

// texts takes a list of strings.
func (d *decoder) texts(to *[]string) reader {
	return func(n *yaml.Node, path string) {
		d.eachItem(n, path, func(item *yaml.Node, path string) {
			var s string
			d.text(&s)(item, path)
			*to = append(*to, s)
		})
	}
}

// eachItem visits a list's values. Nothing at all is an empty list.
func (d *decoder) eachItem(n *yaml.Node, path string, visit reader) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "must be a list, not %s", kindName(n))
		return
	}
	for i, item := range n.Content {
		visit(resolve(item), fmt.Sprintf("%s[%d]", path, i))
	}
}

// kindName says what a node is.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	}
	return fmt.Sprintf("the text %q", shorten(n.Value))
}

// shorten keeps messages readable.
func shorten(s string) string {
	const longest = 60
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}
