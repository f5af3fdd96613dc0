package spack

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pdidev/pdibuild/internal/yamlfile"

	"gopkg.in/yaml.v3"
)

// An Edit is a change to an environment's file. Set and Remove make one.
type Edit struct {
	path  []string
	value any
	set   bool
}

// Set gives the key at a path, such as "config", "install_tree", "root", a
// value: whatever yaml.v3 can encode. Maps that are missing on the way are
// made.
func Set(value any, path ...string) Edit { return Edit{path: path, value: value, set: true} }

// Remove takes the key at a path away, if it is there.
func Remove(path ...string) Edit { return Edit{path: path} }

// Rewrite returns the file with edits, all else and the comments as they are;
// indentation and the width of lines may differ. The environment itself stays
// the same.
func (e *Environment) Rewrite(edits ...Edit) ([]byte, error) {
	root := expand(e.root)
	top := root.Content[0]
	section := top.Content[lookup(top, "spack")]
	if isNull(section) {
		*section = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	for _, edit := range edits {
		if err := edit.apply(section); err != nil {
			return nil, fmt.Errorf("rewrite %s: %w", e.file, err)
		}
	}
	data, err := encode(root)
	if err != nil {
		return nil, fmt.Errorf("rewrite %s: %w", e.file, err)
	}
	return data, nil
}

// expand copies a tree and puts what aliases stand for in their place: an
// edit in one place must not show in others.
func expand(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		target := expand(n.Alias)
		target.HeadComment, target.LineComment, target.FootComment = n.HeadComment, n.LineComment, n.FootComment
		return target
	}
	c := *n
	c.Anchor, c.Alias = "", nil
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = expand(child)
		if n.Style&yaml.FlowStyle != 0 && isNull(c.Content[i]) {
			c.Content[i].Value = "null" // nothing would become an empty text
		}
	}
	return &c
}

func (edit Edit) apply(n *yaml.Node) error {
	path := strings.Join(edit.path, ":")
	if len(edit.path) == 0 {
		return errors.New("an edit needs a path")
	}
	for _, key := range edit.path[:len(edit.path)-1] {
		i := lookup(n, key)
		if i < 0 {
			if !edit.set {
				return nil
			}
			i = add(n, key, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
		}
		next := n.Content[i]
		if isNull(next) && edit.set {
			next.Kind, next.Tag, next.Value = yaml.MappingNode, "!!map", ""
		}
		if next.Kind != yaml.MappingNode {
			if !edit.set {
				return nil
			}
			return fmt.Errorf("%s cannot be set: %s is %s", path, key, kindName(next))
		}
		n = next
	}
	return edit.change(n, edit.path[len(edit.path)-1])
}

// change sets or removes one key of a map.
func (edit Edit) change(n *yaml.Node, key string) error {
	i := lookup(n, key)
	if !edit.set {
		if i >= 0 {
			n.Content = append(n.Content[:i-1:i-1], n.Content[i+1:]...)
		}
		return nil
	}
	value, err := valueNode(edit.value)
	if err != nil {
		return fmt.Errorf("%s cannot be set: %w", strings.Join(edit.path, ":"), err)
	}
	if i < 0 {
		add(n, key, value)
		return nil
	}
	old := n.Content[i]
	if old.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode {
		value.LineComment = old.LineComment
	}
	n.Content[i] = value
	return nil
}

// valueNode makes a node of a value. The YAML library panics on some.
func valueNode(v any) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	n = &yaml.Node{}
	return n, n.Encode(v)
}

// add appends a key and returns the index of its value.
func add(n *yaml.Node, key string, value *yaml.Node) int {
	if len(n.Content) == 0 {
		n.Style &^= yaml.FlowStyle // {} would stay on one line
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
	return len(n.Content) - 1
}

// encode writes a tree and makes sure that it reads as the same: texts of
// several lines, and comments in places of their own, are where the YAML
// library errs. Such texts are quoted then, and if that does not help, there
// are no comments.
func encode(root *yaml.Node) ([]byte, error) {
	for _, simplify := range []func(*yaml.Node){nil, quoteLines, withoutComments} {
		tree := root
		if simplify != nil {
			tree = expand(root)
			simplify(tree)
		}
		data, err := marshal(tree)
		if err != nil {
			return nil, err
		}
		if readsAs(data, root) {
			return data, nil
		}
	}
	return nil, errors.New("there are values that cannot be written back")
}

func marshal(root *yaml.Node) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), nil
}

func readsAs(data []byte, want *yaml.Node) bool {
	got, err := yamlfile.Decode(yaml.NewDecoder(bytes.NewReader(data)))
	return err == nil && sameValue(got, want)
}

func sameValue(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	if isNull(a) && isNull(b) {
		return true
	}
	if a.Kind == yaml.ScalarNode && (a.Value != b.Value || a.ShortTag() != b.ShortTag()) {
		return false
	}
	for i := range a.Content {
		if !sameValue(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// quoteLines quotes texts of several lines.
func quoteLines(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		n.Style = n.Style&yaml.TaggedStyle | yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		quoteLines(c)
	}
}

// withoutComments leaves nothing but the values.
func withoutComments(n *yaml.Node) {
	quoteLines(n)
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	n.Style &= yaml.TaggedStyle | yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		withoutComments(c)
	}
}
