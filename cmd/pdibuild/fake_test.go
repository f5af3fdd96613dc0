package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A fakeEngine is a store in which everything goes as a test says.
type fakeEngine struct {
	pending func(builder.PendingPushOptions) (int, error)
	// build, push and so on are called when they are not nil.
	build  func(ctx context.Context, p *builder.Plan, opt builder.BuildOptions) (*builder.Result, error)
	plan   func(r *recipe.Recipe, contextDir string, opt builder.PlanOptions) (*builder.Plan, error)
	push   func(image, destination string) (string, error)
	export func(image, destination string) error
	remove func(name string) error
	images []builder.Image
	closed int
	// entries are in the cache; pruned are the calls that removed some.
	entries []builder.CacheEntry
	pruned  []builder.PruneOptions
	// attached are the destinations, subjects and types of attachments.
	attached []string
	// opened are the calls that made a container, which then runs.
	opened []openedContainer
	run    func(builder.Streams) (int, error)
}

// An openedContainer is what a container was asked to be.
type openedContainer struct {
	kind, name string
	opt        builder.ContainerOptions
}

// A fakeContainer runs nothing.
type fakeContainer struct{ engine *fakeEngine }

func (c fakeContainer) Run(_ context.Context, streams builder.Streams) (int, error) {
	if c.engine.run != nil {
		return c.engine.run(streams)
	}
	return 0, nil
}

func (c fakeContainer) Close() error { return nil }

func (f *fakeEngine) Container(_ context.Context, image string, opt builder.ContainerOptions) (container, error) {
	f.opened = append(f.opened, openedContainer{"image", image, opt})
	return fakeContainer{f}, nil
}

func (f *fakeEngine) StageContainer(_ context.Context, _ *builder.Plan, stage string, opt builder.ContainerOptions) (container, error) {
	f.opened = append(f.opened, openedContainer{"stage", stage, opt})
	return fakeContainer{f}, nil
}

func (f *fakeEngine) FailedContainer(_ context.Context, source string, opt builder.ContainerOptions) (container, error) {
	f.opened = append(f.opened, openedContainer{"failed", source, opt})
	return fakeContainer{f}, nil
}

func (f *fakeEngine) RemoveFailed(context.Context) (int, error) { return 1, nil }

func (f *fakeEngine) Plan(_ context.Context, r *recipe.Recipe, contextDir string, opt builder.PlanOptions) (*builder.Plan, error) {
	if f.plan != nil {
		return f.plan(r, contextDir, opt)
	}
	return &builder.Plan{Recipe: r, Context: contextDir}, nil
}

const fakeID = "3e89496cc80542994b8c5f164cd057cae11da415260ff6dc0c2d9dadfda2dd75"

func (f *fakeEngine) ForecastSpack(context.Context, *builder.Plan, builder.ForecastOptions) error {
	return nil
}

func (f *fakeEngine) Build(ctx context.Context, p *builder.Plan, opt builder.BuildOptions) (*builder.Result, error) {
	if f.build != nil {
		return f.build(ctx, p, opt)
	}
	return &builder.Result{ImageID: fakeID, Digest: "sha256:aa", Names: opt.Tags, Size: 4096, Layers: 2, Executed: 2}, nil
}

func (f *fakeEngine) Destination(image string) (string, error) { return image, nil }

func (f *fakeEngine) Push(_ context.Context, image, destination string, _ builder.PushOptions) (string, error) {
	if f.push != nil {
		return f.push(image, destination)
	}
	return "sha256:bb", nil
}

func (f *fakeEngine) Export(_ context.Context, image, destination string, _ builder.PushOptions) error {
	if f.export != nil {
		return f.export(image, destination)
	}
	return nil
}

func (f *fakeEngine) Images(context.Context) ([]builder.Image, error) { return f.images, nil }

func (f *fakeEngine) Remove(_ context.Context, name string) error {
	if f.remove != nil {
		return f.remove(name)
	}
	return nil
}

func (f *fakeEngine) Close() error {
	f.closed++
	return nil
}

func (f *fakeEngine) CacheEntries(context.Context) ([]builder.CacheEntry, error) {
	return f.entries, nil
}

func (f *fakeEngine) PruneCache(_ context.Context, opt builder.PruneOptions) (*builder.PruneResult, error) {
	f.pruned = append(f.pruned, opt)
	return &builder.PruneResult{Removed: f.entries, Freed: 7, Left: 5e9}, nil
}

func (f *fakeEngine) ExportSteps(context.Context, *builder.Plan, builder.StepCache, builder.StepCacheOptions) (sent, had int, err error) {
	return 2, 1, nil
}

func (f *fakeEngine) ImportSteps(context.Context, *builder.Plan, builder.StepCache, builder.StepCacheOptions) (have, of int, err error) {
	return 3, 4, nil
}

func (f *fakeEngine) VerifyCache(_ context.Context, tell func(string)) (looked, damaged int, err error) {
	tell("step 123: its files have another digest")
	return 3, 1, nil
}

// A testApp is the program with a fake world around it.
type testApp struct {
	app
	out, err bytes.Buffer
	env      map[string]string
	opened   []builder.StoreOptions
	entered  int
}

func newTestApp(e engine) *testApp {
	t := &testApp{env: map[string]string{}}
	t.app = app{
		stdin: strings.NewReader(""), stdout: &t.out, stderr: &t.err,
		lookup:   func(name string) (string, bool) { v, ok := t.env[name]; return v, ok },
		enter:    func() error { t.entered++; return nil },
		open:     func(o builder.StoreOptions) (engine, error) { t.opened = append(t.opened, o); return e, nil },
		terminal: func() (int, int, bool) { return 0, 0, false },
		console:  func() console { return console{} },
		password: func(string) (string, error) { return "typed", nil },
	}
	return t
}

// writeRecipe makes a build context with a recipe and goes there.
func writeRecipe(t *testing.T, text string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(recipe.FileName, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const smallRecipe = `version: 1
name: example.org/group/app
args: {GCC: "15"}
secrets:
  token: {env: TOKEN, optional: true}
stages:
  - name: base
    from: scratch
    steps:
      - file: /hello
        content: hello
  - name: final
    from: base
`

func (f *fakeEngine) PushPending(_ context.Context, opt builder.PendingPushOptions) (int, error) {
	if f.pending == nil {
		return 0, nil
	}
	return f.pending(opt)
}

func (f *fakeEngine) OpenImage(_ context.Context, name, _ string) (imageSource, error) {
	return nil, &builder.InputError{Subject: "image " + name, Err: errors.New("the image is not in the store")}
}

func (f *fakeEngine) Attach(_ context.Context, destination, subject string, a builder.Attachment) (string, error) {
	f.attached = append(f.attached, destination+"@"+subject+" "+a.Type)
	return "sha256:cc", nil
}

func (f *fakeEngine) Provenance(image, subject, manifestDigest, _ string) ([]byte, error) {
	return []byte(image + subject + manifestDigest), nil
}
