package recipe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pdidev/pdibuild/internal/yamlfile"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"

	"gopkg.in/yaml.v3"
)

// FileName is the recipe's usual name.
const FileName = "pdibuild.yaml"

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
	return nil, Errors{{Message: fmt.Sprintf("no %s in %s; a spack.yaml alone would do, too", FileName, dir), Code: failure.NoRecipe}}
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
	data, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1))
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
	var problem *yamlfile.Problem
	if d.doc, problem = yamlfile.Parse(data, recipeFile); problem != nil {
		return nil, Errors{d.at(problem.Line, problem.Column, problem.Message)}
	}
	r := &Recipe{}
	d.recipe(d.doc.Root.Content[0], r)
	d.validate(r)
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	return r, nil
}

// recipeFile is what a recipe is as a YAML file. A plain file of the largest
// size has no more values.
var recipeFile = yamlfile.Kind{Name: "a recipe", Empty: "is empty; a recipe begins with 'version: 1'", MaxNodes: 1 << 19}

func (d *decoder) at(line, column int, message string) *Error {
	return &Error{File: d.file, Line: line, Column: column, Message: message, Source: d.doc.Source(line)}
}
