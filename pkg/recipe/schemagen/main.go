// Schemagen writes the JSON Schema and the reference of recipes from the types
// of package recipe and their comments. It is run by go generate in that
// package's directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Where the generated files go, relative to the directory of package recipe.
const (
	schemaFile    = "pdibuild.schema.json"
	referenceFile = "../../docs/recipe.md"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintf(os.Stderr, "schemagen: %v\n", err)
		os.Exit(1)
	}
}

// run writes both files for the package in dir.
func run(dir string) error {
	generated, err := generate(dir)
	if err != nil {
		return err
	}
	for name, data := range generated {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("write what was generated: %w", err)
		}
	}
	return nil
}

// generate makes the files' contents from the package in dir.
func generate(dir string) (map[string][]byte, error) {
	m, err := newModel(filepath.Join(dir, "recipe.go"))
	if err != nil {
		return nil, err
	}
	schema, err := m.schema()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{schemaFile: schema, referenceFile: m.reference()}, nil
}
