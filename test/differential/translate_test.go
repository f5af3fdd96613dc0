//go:build integration

package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// baseImage is in every store.
const baseImage = "localhost/differential-base"

// recipe writes the scenario as a recipe.
func (s *scenario) recipe() ([]byte, error) {
	var stages []map[string]any
	for _, st := range s.stages {
		steps := []map[string]any{}
		for _, step := range st.steps {
			steps = append(steps, step.recipe())
		}
		stages = append(stages, map[string]any{"name": st.name, "from": baseImage, "steps": steps})
	}
	return yaml.Marshal(map[string]any{"version": 1, "name": "localhost/differential", "stages": stages})
}

// inRecipe escapes a text in which arguments are replaced.
func inRecipe(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func (s *step) recipe() map[string]any {
	m := map[string]any{}
	set := func(key, value string) {
		if value != "" {
			m[key] = inRecipe(value)
		}
	}
	switch s.verb {
	case "run":
		m["run"] = s.script()
	case "copy":
		var sources []string
		for _, source := range s.sources {
			sources = append(sources, inRecipe(source))
		}
		m["copy"] = sources
		set("to", s.to)
		set("from", s.from)
		if len(s.exclude) > 0 {
			m["exclude"] = s.exclude
		}
	case "file":
		set("file", s.to)
		m["content"] = s.text
	default:
		set(s.verb, s.text)
	}
	set("owner", s.owner)
	set("mode", s.mode)
	return m
}

// script is what a run step runs. It always succeeds.
func (s *step) script() string {
	var b strings.Builder
	for _, line := range s.lines {
		fmt.Fprintf(&b, "{ %s; } 2>/dev/null || :\n", line)
	}
	return b.String()
}

// containerfile writes the scenario as a Containerfile. The contents of file
// steps are written to the directory files, if any; it is a build context of
// that name.
func (s *scenario) containerfile(files string) ([]byte, error) {
	var b bytes.Buffer
	n := 0
	for _, st := range s.stages {
		fmt.Fprintf(&b, "FROM %s AS %s\n", baseImage, st.name)
		for _, step := range st.steps {
			switch step.verb {
			case "run":
				fmt.Fprintf(&b, "RUN %s\n", jsonList("/bin/sh", "-c", step.script()))
			case "copy":
				b.WriteString("COPY" + step.copyFlags(step.from) + " " + step.arguments(step.sources) + "\n")
			case "file":
				n++
				name := fmt.Sprint("file", n)
				if files != "" {
					if err := os.WriteFile(filepath.Join(files, name), []byte(step.text), 0o644); err != nil {
						return nil, err
					}
				}
				if step.mode == "" {
					step.mode = "0644"
				}
				b.WriteString("COPY" + step.copyFlags("files") + " " + step.arguments([]string{name}) + "\n")
			default:
				fmt.Fprintf(&b, "%s %s\n", strings.ToUpper(step.verb), inContainerfile(step.text))
			}
		}
	}
	return b.Bytes(), nil
}

// copyFlags names the owner in any case: a recipe's default is root also for
// what comes from a stage.
func (s *step) copyFlags(from string) string {
	var b strings.Builder
	if from != "" {
		b.WriteString(" --from=" + from)
	}
	owner := s.owner
	if owner == "" {
		owner = "0:0"
	}
	b.WriteString(" --chown=" + owner)
	if s.mode != "" {
		b.WriteString(" --chmod=" + s.mode)
	}
	for _, pattern := range s.exclude {
		b.WriteString(" --exclude=" + inContainerfile(pattern))
	}
	return b.String()
}

func (s *step) arguments(sources []string) string {
	to := s.to
	if len(sources) > 1 && !strings.HasSuffix(to, "/") {
		to += "/"
	}
	var all []string
	for _, name := range sources {
		all = append(all, inContainerfile(name))
	}
	return jsonList(append(all, inContainerfile(to))...)
}

// inContainerfile escapes a text in which variables are replaced.
func inContainerfile(s string) string {
	return strings.NewReplacer(`\`, `\\`, `$`, `\$`, `'`, `\'`, `"`, `\"`).Replace(s)
}

func jsonList(words ...string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(words) // texts can always be encoded
	return strings.TrimSpace(b.String())
}
