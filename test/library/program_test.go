//go:build integration

package library

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/test/busybox"
)

// A program has a recipe, its context and an image store.
type program struct {
	context, store string
	// registry is pulled from and pushed to when it is not empty.
	registry string
}

// newProgram makes a context and an empty store.
func newProgram(t *testing.T) *program {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "pdibuild-library-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something is still in use: %v", err)
		}
	})
	p := &program{context: filepath.Join(dir, "context"), store: filepath.Join(dir, "store")}
	program, err := os.ReadFile(busybox.Find(t))
	if err := errors.Join(err, os.Mkdir(p.context, 0o755), os.WriteFile(filepath.Join(p.context, "busybox"), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	return p
}

// recipe has two stages side by side and one that needs both. Nothing of it
// is in a cache for a word that was never used.
func (p *program) recipe(word string) *recipe.Recipe {
	busybox := recipe.Copy{Sources: []string{"busybox"}, To: "/bin/busybox", Mode: "0755"}
	stage := func(name string) recipe.Stage {
		return recipe.Stage{Name: name, From: "scratch", Steps: []recipe.Step{
			busybox,
			recipe.Run{Command: command("sh", "-c", "echo "+name+" "+word+" | /bin/busybox tee /"+name)},
		}}
	}
	return &recipe.Recipe{Version: 1, Stages: []recipe.Stage{
		stage("one"), stage("two"),
		{Name: "final", From: "one", Steps: []recipe.Step{
			recipe.Copy{From: "two", Sources: []string{"/two"}, To: "/opt/two", Owner: "1001:1001"},
			recipe.File{Path: "/etc/word", Content: word + "\n"},
			recipe.Check{Command: command("cat", "/one", "/opt/two")},
		}},
	}}
}

func command(args ...string) recipe.Command {
	return recipe.Exec(append([]string{"/bin/busybox"}, args...)...)
}

func (p *program) open() (*builder.Builder, error) {
	insecure := false
	return builder.Open(builder.StoreOptions{Root: p.store, Registries: builder.Registries{TLSVerify: &insecure}})
}

// build does what a program does with the library, from Open to Close.
func (p *program) build(ctx context.Context, word string) (_ *builder.Result, err error) {
	b, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return p.buildWith(ctx, b, word)
}

func (p *program) buildWith(ctx context.Context, b *builder.Builder, word string) (*builder.Result, error) {
	plan, err := b.Plan(ctx, p.recipe(word), p.context, builder.PlanOptions{})
	if err != nil {
		return nil, err
	}
	name := "localhost/library:" + word
	if p.registry != "" {
		name = p.registry + "/library:" + word
	}
	// Both callbacks are promised one call at a time: the race detector looks.
	events, lines := 0, 0
	result, err := b.Build(ctx, plan, builder.BuildOptions{
		Tags:    []string{name},
		Secrets: map[string][]byte{},
		Events:  func(builder.Event) { events++ },
		Output:  func(string, int, []byte) { lines++ },
	})
	if err != nil || p.registry == "" {
		return result, err
	}
	events = 0
	_, err = b.Push(ctx, name, "", builder.PushOptions{Events: func(builder.Event) { events++ }})
	return result, err
}
