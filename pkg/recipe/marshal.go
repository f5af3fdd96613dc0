package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Marshal writes the canonical form of a recipe: keys in the order of the
// types, maps sorted, nothing that is empty. Parse reads it back to an equal
// Recipe, and the canonical form of that is the same text. It does not
// validate; a text that is not UTF-8 is an error, as no YAML file can have it.
func Marshal(r *Recipe) ([]byte, error) {
	if r == nil {
		return nil, errors.New("write recipe: there is none")
	}
	return encode(reflect.ValueOf(*r))
}

// CanonicalStep returns the canonical form of one step: the same bytes for
// equal steps, other bytes for others.
func CanonicalStep(s Step) ([]byte, error) {
	if s == nil {
		return nil, errors.New("write step: there is none")
	}
	return encode(reflect.ValueOf(s))
}

func encode(v reflect.Value) ([]byte, error) {
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	n := node(v)
	if bad, ok := notText(n); ok {
		return nil, fmt.Errorf("write recipe: %q is not UTF-8 text", bad)
	}
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("write recipe: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write recipe: %w", err)
	}
	return buf.Bytes(), nil
}

// notText finds a text that no YAML file can have.
func notText(n *yaml.Node) (string, bool) {
	if !utf8.ValidString(n.Value) {
		return n.Value, true
	}
	for _, c := range n.Content {
		if bad, ok := notText(c); ok {
			return bad, true
		}
	}
	return "", false
}

// text is the node of a string. Lines are shown as lines where that keeps
// them as they are; what the library's other styles may change is quoted.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if !utf8.ValidString(s) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} // refused by encode
	}
	odd := strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	block := strings.Contains(s, "\n")
	if odd || (block && strings.ContainsAny(s[:1], " \n")) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// node is the inverse of decoder.value.
func node(v reflect.Value) *yaml.Node {
	if !v.IsValid() {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	}
	switch x := v.Interface().(type) {
	case Command:
		if len(x.Argv) > 0 {
			return node(reflect.ValueOf(x.Argv))
		}
		return text(x.Shell)
	case SecretUse:
		if x == (SecretUse{ID: x.ID}) {
			return text(x.ID)
		}
	case UserSpec:
		if x == (UserSpec{Name: x.Name}) {
			return text(x.Name)
		}
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return node(v.Elem())
	case reflect.Struct:
		return structNode(v)
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			n.Content = append(n.Content, node(v.Index(i)))
		}
		return n
	case reflect.Map:
		return mapNode(v)
	case reflect.String:
		return text(v.String())
	}
	n := &yaml.Node{}
	_ = n.Encode(v.Interface())
	return n
}

func structNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if install, ok := v.Interface().(SpackInstall); ok {
		value := text(install.Environment)
		if install.Inline != nil {
			value = node(reflect.ValueOf(install.Inline))
		}
		n.Content = append(n.Content, text("environment"), value)
	}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || (options == "omitempty" && isEmpty(v.Field(i))) {
			continue
		}
		n.Content = append(n.Content, text(name), node(v.Field(i)))
	}
	return n
}

func isEmpty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}

func mapNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	keys := slices.Sorted(maps.Keys(stringKeys(v)))
	for _, k := range keys {
		n.Content = append(n.Content, text(k), node(v.MapIndex(reflect.ValueOf(k))))
	}
	return n
}

func stringKeys(v reflect.Value) map[string]bool {
	keys := map[string]bool{}
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}
