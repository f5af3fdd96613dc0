package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/spack"

	"gopkg.in/yaml.v3"
)

// FileName is the recipe's usual name.
const FileName = "pdibuild.yaml"

// Limits on a recipe file. They are far above what anybody writes by hand and
// keep a hostile file from using up memory or time.
const (
	maxSize  = 1 << 20
	maxNodes = 1 << 19 // with all aliases followed; a plain file of maxSize has no more
	maxDepth = 64
)

// Load reads pdibuild.yaml (or pdibuild.yml) in dir. A directory that has only
// a spack.yaml is a recipe, too: that of its container: section. Problems with
// its contents are Errors.
func Load(dir string) (*Recipe, error) {
	switch path := Find(dir); {
	case filepath.Base(path) == spack.EnvironmentFileName:
		return fromEnvironment(path)
	case exists(path):
		return LoadFile(path)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, Errors{{File: dir, Message: "there is no such directory"}}
	}
	return nil, Errors{{Message: fmt.Sprintf("no %s in %s; 'pdibuild init' writes one to start with, --file names another; a spack.yaml alone would do, too", FileName, dir)}}
}

// Find returns the file in dir that Load reads: pdibuild.yaml, pdibuild.yml or
// spack.yaml. Where none of them is, it is the first, which could be.
func Find(dir string) string {
	for _, name := range []string{FileName, "pdibuild.yml", spack.EnvironmentFileName} {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return filepath.Join(dir, FileName)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// LoadFile reads a recipe from a file. Problems with its contents are Errors.
func LoadFile(path string) (*Recipe, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Errors{{File: path, Message: "there is no such file"}}
	}
	if err != nil {
		return nil, fmt.Errorf("read recipe: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, Errors{{File: path, Message: "is a directory; name the recipe in it"}}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read recipe: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a recipe from YAML. Name stands for the file in messages. All
// problems are reported at once, as Errors. Beside what Validate checks, a
// recipe must be one UTF-8 document of at most 1 MiB without keys that are
// unknown or there twice; anchors and aliases may be used, merge keys and tags
// of one's own may not.
func Parse(name string, data []byte) (*Recipe, error) {
	d := &decoder{file: name, nodes: map[string]*yaml.Node{}, broken: map[string]bool{}}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	r := &Recipe{}
	d.recipe(root, r)
	d.validate(r)
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	return r, nil
}

// parse makes the node tree and checks what could harm us later.
func (d *decoder) parse(data []byte) (*yaml.Node, error) {
	if len(data) > maxSize {
		return nil, Errors{{File: d.file, Message: fmt.Sprintf("is larger than %d bytes; a recipe is a small file", maxSize)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	d.lines = splitLines(string(data))
	if err := d.checkText(data); err != nil {
		return nil, err
	}
	root, more, err := documents(data)
	switch {
	case errors.Is(err, io.EOF) || (err == nil && isNothing(root)):
		return nil, Errors{{File: d.file, Message: "is empty; 'pdibuild init' writes a recipe to start with"}}
	case err != nil:
		return nil, d.syntaxError(err)
	case more != nil:
		return nil, Errors{d.at(more.Line, more.Column, "a second document begins here; a recipe is one document")}
	}
	w := &treeWalk{open: map[*yaml.Node]bool{}}
	if n, message := w.tooMuch(root, 0); n != nil {
		return nil, Errors{d.at(n.Line, n.Column, message)}
	}
	return root.Content[0], nil
}

func isNothing(root *yaml.Node) bool {
	return len(root.Content) != 1 || (root.Content[0].Kind == yaml.ScalarNode && root.Content[0].Tag == "!!null")
}

// documents decodes the first document, and the second if there is one.
func documents(data []byte) (first, second *yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if first, err = decodeNode(dec); err != nil {
		return nil, nil, err
	}
	second, err = decodeNode(dec)
	if errors.Is(err, io.EOF) {
		return first, nil, nil
	}
	return first, second, err
}

// decodeNode decodes one document. The YAML library panics on some inputs.
func decodeNode(dec *yaml.Decoder) (n *yaml.Node, err error) {
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
}

// tooMuch returns the first node that a recipe cannot have.
func (w *treeWalk) tooMuch(n *yaml.Node, depth int) (*yaml.Node, string) {
	w.count++
	switch {
	case w.count > maxNodes:
		return n, "too many values; aliases may repeat one another"
	case depth > maxDepth:
		return n, "nested too deeply"
	case n.Kind == yaml.AliasNode && w.open[n.Alias]:
		return n, fmt.Sprintf("the alias *%s is inside of what it stands for", n.Value)
	case n.Style&yaml.TaggedStyle != 0 && !plainTag(n.ShortTag()):
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

func (d *decoder) at(line, column int, message string) *Error {
	return &Error{File: d.file, Line: line, Column: column, Message: message, Source: d.source(line)}
}

func (d *decoder) source(line int) string {
	if line < 1 || line > len(d.lines) {
		return ""
	}
	return d.lines[line-1]
}
