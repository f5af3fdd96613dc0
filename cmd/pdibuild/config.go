package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// siteConfig is the administrator's configuration file.
const siteConfig = "/etc/pdibuild/config.yaml"

// A config is what the configuration files say.
type config struct{ limits builder.CacheLimits }

// A configError says what is wrong with a configuration file.
type configError struct{ all recipe.Errors }

func (e *configError) Error() string { return e.all.Error() }

// configFiles are read one after the other: what a user says comes last.
func (a *app) configFiles() []string {
	files := []string{siteConfig}
	dir := a.env("XDG_CONFIG_HOME")
	if dir == "" {
		if home := a.env("HOME"); home != "" {
			dir = filepath.Join(home, ".config")
		}
	}
	if dir != "" {
		files = append(files, filepath.Join(dir, "pdibuild", "config.yaml"))
	}
	return files
}

// config reads the configuration files; none need be there.
func (a *app) config() (config, error) {
	var c config
	for _, file := range a.configFiles() {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		if err := c.read(file, data); err != nil {
			return c, err
		}
	}
	return c, nil
}

// read applies one file.
func (c *config) read(name string, data []byte) error {
	r := &configReader{file: name, lines: strings.Split(string(data), "\n")}
	var doc yaml.Node
	err := yaml.NewDecoder(strings.NewReader(string(data))).Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return nil // it is empty
	case err != nil:
		r.syntax(err)
	default:
		r.mapping(doc.Content[0], map[string]func(*yaml.Node){
			"cache": func(n *yaml.Node) {
				r.mapping(n, map[string]func(*yaml.Node){
					"keep":  func(n *yaml.Node) { setting(r, n, &c.limits.Keep, quantity.Size) },
					"older": func(n *yaml.Node) { setting(r, n, &c.limits.Older, quantity.Age) },
				})
			},
		})
	}
	if len(r.errs) > 0 {
		return &configError{r.errs}
	}
	return nil
}

// A configReader collects what is wrong with a file.
type configReader struct {
	file  string
	lines []string
	errs  recipe.Errors
}

func (r *configReader) fail(n *yaml.Node, suggestion, format string, args ...any) {
	e := &recipe.Error{File: r.file, Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	if n.Line > 0 && n.Line <= len(r.lines) {
		e.Source = r.lines[n.Line-1]
	}
	r.errs = append(r.errs, e)
}

// syntax takes the line out of the parser's message, which has no column.
func (r *configReader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	r.fail(&yaml.Node{Line: max(line, 1), Column: 1}, "", "%s", text)
}

// mapping reads keys with fixed names, each once.
func (r *configReader) mapping(n *yaml.Node, keys map[string]func(*yaml.Node)) {
	if n.Tag == "!!null" {
		return
	}
	var names []string
	for name := range keys {
		names = append(names, name)
	}
	slices.Sort(names)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "", "expected keys: %s", strings.Join(names, ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := keys[key.Value]
		switch {
		case !ok:
			near := nearest(key.Value, names)
			r.fail(key, near, "unknown key %q; the keys here are %s", key.Value, strings.Join(names, ", "))
		case seen[key.Value]:
			r.fail(key, "", "%s is here twice", key.Value)
		default:
			read(value)
		}
		seen[key.Value] = true
	}
}

func setting[T any](r *configReader, n *yaml.Node, to *T, parse func(string) (T, error)) {
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "", "expected one value")
		return
	}
	value, err := parse(n.Value)
	if err != nil {
		r.fail(n, "", "%v", err)
		return
	}
	*to = value
}
