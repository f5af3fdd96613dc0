package builder_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A recipe is data: a program can make one without any YAML. This one has two
// stages, of which the second takes a file from the first. In a real program,
// builder.Init and builder.EnterNamespace come first in main.
func Example() {
	dir, err := os.MkdirTemp("", "pdibuild-example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	rec := &recipe.Recipe{
		Version: 1,
		Stages: []recipe.Stage{
			{Name: "data", From: "scratch", Steps: []recipe.Step{
				recipe.File{Path: "/table", Content: "1 2 3\n"},
			}},
			{Name: "final", From: "scratch", Steps: []recipe.Step{
				recipe.Copy{From: "data", Sources: []string{"/table"}, To: "/opt/table", Owner: "1001:1001"},
				recipe.Env{Env: map[string]string{"TABLE": "/opt/table"}},
			}},
		},
	}

	b, err := builder.Open(builder.StoreOptions{Root: filepath.Join(dir, "store")})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	ctx := context.Background()
	plan, err := b.Plan(ctx, rec, dir, builder.PlanOptions{Platform: "linux/amd64"})
	if err != nil {
		log.Fatal(err)
	}
	for _, stage := range plan.Stages {
		for _, step := range stage.Steps {
			fmt.Printf("%s: %s\n", stage.Name, step.Text)
		}
	}
	result, err := b.Build(ctx, plan, builder.BuildOptions{Tags: []string{"localhost/example:1"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Names[0], result.Layers, "layer")
	fmt.Println("sha256:" + result.ImageID)
	// Output:
	// data: from scratch
	// data: file /table
	// final: from scratch
	// final: copy data:/table → /opt/table
	// final: env TABLE
	// localhost/example:1 1 layer
	// sha256:89f5c928ce6769f1e84d80af6494ec950510e4010c2436e4f5ab56fd97106cec
}
