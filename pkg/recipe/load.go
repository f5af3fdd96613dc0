package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// FileName is the recipe's usual name.
const FileName = "pdibuild.yaml"

// Limits on a recipe file. They are far above what anybody writes by hand and
// keep a hostile file from using up memory or time.
const (
	maxSize  = 1 << 20
	maxNodes = 100_000
	maxDepth = 64
)

// Load reads pdibuild.yaml (or pdibuild.yml) in dir. Problems with its
// contents are Errors.
func Load(dir string) (*Recipe, error) {
	for _, name := range []string{FileName, "pdibuild.yml"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return LoadFile(path)
		}
	}
	message := fmt.Sprintf("no %s in %s; 'pdibuild init' writes one to start with, --file names another", FileName, dir)
	if _, err := os.Stat(filepath.Join(dir, "spack.yaml")); err == nil {
		message += " (there is a spack.yaml, which this version cannot build by itself)"
	}
	return nil, Errors{{Message: message}}
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
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read recipe: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a recipe from YAML. Name stands for the file in messages. All
// problems are reported at once, as Errors.
func Parse(name string, data []byte) (*Recipe, error) {
	d := &decoder{file: name, lines: strings.Split(string(data[:min(len(data), maxSize)]), "\n"), nodes: map[string]*yaml.Node{}}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	r := &Recipe{}
	d.recipe(root, r)
	if len(d.errs) == 0 {
		d.validate(r)
	}
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
	if i := invalidUTF8(data); i >= 0 {
		line := bytes.Count(data[:i], []byte("\n")) + 1
		return nil, Errors{d.at(line, 1, "is not UTF-8 text")}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	root, err := decodeNode(dec)
	if errors.Is(err, io.EOF) {
		return nil, Errors{{File: d.file, Message: "is empty; 'pdibuild init' writes a recipe to start with"}}
	}
	if err != nil {
		return nil, d.syntaxErrors(err)
	}
	if more, err := decodeNode(dec); err == nil {
		return nil, Errors{d.at(more.Line, more.Column, "a second document begins here; a recipe is one document")}
	} else if !errors.Is(err, io.EOF) {
		return nil, d.syntaxErrors(err)
	}
	count := 0
	if n, message := tooMuch(root, 0, &count, map[*yaml.Node]bool{}); n != nil {
		return nil, Errors{d.at(n.Line, n.Column, message)}
	}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		return root.Content[0], nil
	}
	return nil, Errors{{File: d.file, Message: "is empty; 'pdibuild init' writes a recipe to start with"}}
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

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// tooMuch walks the tree as it is with all aliases followed.
func tooMuch(n *yaml.Node, depth int, count *int, open map[*yaml.Node]bool) (*yaml.Node, string) {
	*count++
	switch {
	case *count > maxNodes:
		return n, "too many values; aliases may repeat one another"
	case depth > maxDepth:
		return n, "nested too deeply"
	case open[n]:
		return n, "an alias contains itself"
	}
	open[n] = true
	defer delete(open, n)
	if n.Kind == yaml.AliasNode {
		return tooMuch(n.Alias, depth+1, count, open)
	}
	for _, c := range n.Content {
		if bad, message := tooMuch(c, depth+1, count, open); bad != nil {
			return bad, message
		}
	}
	return nil, ""
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// syntaxErrors gives the library's message a place.
func (d *decoder) syntaxErrors(err error) error {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return Errors{{File: d.file, Line: 1, Column: 1, Source: d.source(1), Message: strings.TrimPrefix(text, "yaml: ")}}
	}
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	e := d.at(line, 1, strings.TrimPrefix(text, m[0]))
	if trimmed := strings.TrimLeft(e.Source, " \t"); trimmed != "" {
		e.Column = len(e.Source) - len(trimmed) + 1
	}
	if strings.Contains(e.Source, "\t") {
		e.Message += "; YAML does not allow tabs for indentation"
	}
	return Errors{e}
}

func (d *decoder) at(line, column int, message string) *Error {
	return &Error{File: d.file, Line: line, Column: column, Message: message, Source: d.source(line)}
}

func (d *decoder) source(line int) string {
	if line < 1 || line > len(d.lines) {
		return ""
	}
	return strings.TrimRight(d.lines[line-1], "\r")
}
