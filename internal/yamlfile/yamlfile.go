// Package yamlfile reads small YAML files that people write, and says where one
// is wrong in words for its writer. It keeps hostile files from using up memory
// or time. It is pure and safe for concurrent use.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"
)

// MaxSize is the most bytes of a file: far more than anybody writes by hand.
const MaxSize = 1 << 20

// maxDepth is how deep values may be nested.
const maxDepth = 64

// A Kind of file, and what messages call it.
type Kind struct {
	// Name has its article: "a recipe".
	Name string
	// Empty is the message about a file without a value.
	Empty string
	// MaxNodes is the most values, with all aliases followed.
	MaxNodes int
	// Tags may be other than YAML's own.
	Tags bool
}

// A File is one document.
type File struct {
	// Lines are the text, broken where the YAML library counts a line.
	Lines []string
	// Root is the document's node, whose only content is the value.
	Root *yaml.Node
}

// A Problem is why a file cannot be read. Line and Column are from 1; Line is 0
// when it is the file as a whole.
type Problem struct {
	Line, Column int
	Message      string
}

// Parse reads one document of UTF-8 text. With a problem the file's lines are
// there, if it has any, and Root is nil.
func Parse(data []byte, kind Kind) (File, *Problem) {
	var f File
	if len(data) > MaxSize {
		return f, &Problem{Message: fmt.Sprintf("is larger than %d bytes; %s is a small file", MaxSize, kind.Name)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	f.Lines = splitLines(string(data))
	if p := checkText(data, kind); p != nil {
		return f, p
	}
	root, more, err := documents(data)
	switch {
	case errors.Is(err, io.EOF) || (err == nil && isNothing(root)):
		return f, &Problem{Message: kind.Empty}
	case err != nil:
		return f, f.syntaxProblem(err)
	case more != nil:
		return f, &Problem{more.Line, more.Column, "a second document begins here; " + kind.Name + " is one document"}
	}
	w := &treeWalk{open: map[*yaml.Node]bool{}, kind: &kind}
	if n, message := w.tooMuch(root, 0); n != nil {
		return f, &Problem{n.Line, n.Column, message}
	}
	f.Root = root
	return f, nil
}

// Source is a line of the file, "" if there is none with this number.
func (f *File) Source(line int) string {
	if line < 1 || line > len(f.Lines) {
		return ""
	}
	return f.Lines[line-1]
}

func isNothing(root *yaml.Node) bool {
	return len(root.Content) != 1 || (root.Content[0].Kind == yaml.ScalarNode && root.Content[0].Tag == "!!null")
}

// documents decodes the first document, and the second if there is one.
func documents(data []byte) (first, second *yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if first, err = Decode(dec); err != nil {
		return nil, nil, err
	}
	second, err = Decode(dec)
	if errors.Is(err, io.EOF) {
		return first, nil, nil
	}
	return first, second, err
}

// Decode decodes the next document. The YAML library panics on some inputs,
// which is an error here.
func Decode(dec *yaml.Decoder) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	n = &yaml.Node{}
	return n, dec.Decode(n)
}

// A treeWalk looks at a tree as it is with all aliases followed.
type treeWalk struct {
	count int
	open  map[*yaml.Node]bool // anchors that we are in
	kind  *Kind
}

// tooMuch returns the first node that the file cannot have.
func (w *treeWalk) tooMuch(n *yaml.Node, depth int) (*yaml.Node, string) {
	w.count++
	switch {
	case w.count > w.kind.MaxNodes:
		return n, "too many values; aliases may repeat one another"
	case depth > maxDepth:
		return n, "nested too deeply"
	case n.Kind == yaml.AliasNode && w.open[n.Alias]:
		return n, fmt.Sprintf("the alias *%s is inside of what it stands for", n.Value)
	case !w.kind.Tags && n.Style&yaml.TaggedStyle != 0 && !plainTag(n.ShortTag()):
		return n, fmt.Sprintf("the tag %s is not supported", n.Tag)
	}
	if n.Anchor != "" {
		w.open[n] = true
		defer delete(w.open, n)
	}
	if n.Kind == yaml.AliasNode {
		return w.tooMuch(n.Alias, depth+1)
	}
	for _, c := range n.Content {
		if bad, message := w.tooMuch(c, depth+1); bad != nil {
			return bad, message
		}
	}
	return nil, ""
}

func plainTag(tag string) bool {
	switch tag {
	case "!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq":
		return true
	}
	return false
}
