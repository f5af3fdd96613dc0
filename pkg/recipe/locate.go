package recipe

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/yamlfile"
)

// Locate finds a step in a recipe's text: the nth of a stage, of which the
// first one is its base. It returns an Error that has this place and no
// message, or nil if the text has no such step. Name stands for the file.
func Locate(name string, data []byte, stage string, step int) *Error {
	d := &decoder{file: name, nodes: map[string]*yaml.Node{}, broken: map[string]bool{}}
	var problem *yamlfile.Problem
	if d.doc, problem = yamlfile.Parse(data, recipeFile); problem != nil {
		return nil
	}
	r := &Recipe{}
	d.recipe(d.doc.Root.Content[0], r)
	for i := range r.Stages {
		if r.Stages[i].Name != stage {
			continue
		}
		path := fmt.Sprintf("stages[%d].from", i)
		if step > 1 {
			path = fmt.Sprintf("stages[%d].steps[%d]", i, step-2)
		}
		if n, ok := d.nodes[path]; ok {
			return d.at(n.Line, n.Column, "")
		}
	}
	return nil
}
