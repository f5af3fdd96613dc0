package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/envlayers"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// performEnvironment copies the installation of a spack step, as far as it is
// needed to run.
func (x *stepRun) performEnvironment(ctx context.Context, s state, step recipe.Environment) (rec cache.Record, err error) {
	from := x.run.finished()[step.From]
	in := from.installation(step.Name)
	if in == nil {
		return cache.Record{}, &InputError{Err: fmt.Errorf("the stage %q has no environment %q", step.From, step.Name), Hint: "give it a spack step"}
	}
	wk, err := x.run.b.works.create(from.layer)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { err = errors.Join(err, wk.release()) }()
	target, err := x.bench.take(s.layer)
	if err != nil {
		return cache.Record{}, err
	}
	// It is only read, so it is clean whatever happens.
	defer func() { err = errors.Join(err, x.bench.give(target, true)) }()
	p := &environmentStep{stepRun: x, source: wk.root, target: &rootView{Root: target.root}}
	if p.files, err = newLayerFiles(x.run.b.store, from.layer); err != nil {
		return cache.Record{}, err
	}
	defer p.files.close()
	if p.known, err = x.run.b.packLayers(); err != nil {
		return cache.Record{}, err
	}
	job := &envlayers.Job{
		Step: p, In: in, Layers: cmp.Or(step.Layers, envlayers.DefaultLayers), Epoch: x.run.plan.epoch,
		Activation: finalActivation(s, x.stage, step, in), Getenv: s.getenv,
	}
	return job.Run(ctx, s.layer)
}

// An environmentStep makes the layers of an environment step; see envlayers.Step.
type environmentStep struct {
	*stepRun
	// source is the stage with the installation, target the one that gets it.
	source *rootfs.Root
	target *rootView
	files  *layerFiles
	// known are layers of earlier environments, by their keys.
	known map[string]*storage.Layer
}

// Source is the root of the stage with the installation.
func (p *environmentStep) Source() *rootfs.Root { return p.source }

// Target is the root of the stage that gets the installation.
func (p *environmentStep) Target() *rootfs.Root { return p.target.Root }

// Walk calls do for the files that CopyDir would copy.
func (p *environmentStep) Walk(dir string, exclude []string, do func(*rootfs.File) error) error {
	files := &buildcontext.Selection{Root: p.source, Exclude: exclude}
	m, err := files.Within(dir)
	if err != nil {
		return err
	}
	return files.Walk(&m, func(f *rootfs.File, _ string) error { return do(f) })
}

// CopyDir adds the contents of a directory to a tree, under the same names.
func (p *environmentStep) CopyDir(tree *layer.Tree, dir string, opt envlayers.CopyOptions) error {
	c := &stageCopier{
		copier:    &copier{tree: tree, to: dir, mode: buildcontext.KeptMode},
		Selection: buildcontext.Selection{Root: p.source, Exclude: opt.Exclude}, files: p.files, drop: opt.Drop, adjust: opt.Adjust,
	}
	return c.copyDirectory(dir)
}

// AddParents adds the directories above the entries of a tree.
func (p *environmentStep) AddParents(tree *layer.Tree) error { return p.target.addParents(tree) }

// Commit makes a layer of a tree.
func (p *environmentStep) Commit(ctx context.Context, to envlayers.Target, tree *layer.Tree) (cache.Record, error) {
	return p.keep(ctx, target{parent: to.Parent, pack: to.Key}, tree, layer.Options{OneTime: true})
}

// Reuse makes a layer of an earlier environment once more. A damaged layer, or one
// that is removed meanwhile, is not reused.
func (p *environmentStep) Reuse(ctx context.Context, to envlayers.Target) (cache.Record, bool) {
	old := p.known[to.Key]
	if old == nil {
		return cache.Record{}, false
	}
	rec, err := p.reuse(ctx, target{parent: to.Parent, pack: to.Key}, old)
	return rec, err == nil
}

// Emit reports progress of the step.
func (p *environmentStep) Emit(e progress.Event) { p.emit(e) }

// proveLibraries makes sure that the programs and libraries of environments find
// in the finished root the libraries that they found in the builder.
func (x *stepRun) proveLibraries(_ context.Context, s state) (err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, true)) }()
	final := envlayers.NewLinker(wk.root)
	var externals []string
	for _, step := range x.stage.Steps {
		e, ok := step.(recipe.Environment)
		if !ok {
			continue
		}
		from := x.run.finished()[e.From]
		source, err := x.run.b.works.create(from.layer)
		if err != nil {
			return err
		}
		in := from.installation(e.Name)
		externals = append(externals, envlayers.MissingExternals(in, source.root, wk.root)...)
		lacks, err := envlayers.Compare(in, envlayers.NewLinker(source.root), final)
		if err = errors.Join(err, source.release()); err != nil {
			return err
		}
		if len(lacks) > 0 {
			text, hint := envlayers.Describe(lacks)
			return &StepError{
				Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: -1, Hint: hint,
				Err: fmt.Errorf("the final image lacks shared libraries that the builder has: %s", text),
			}
		}
	}
	if len(externals) > 0 {
		slices.Sort(externals)
		x.emit(progress.Event{
			Kind: progress.Warning,
			Text: "the final image lacks external packages that the builder has and the environment runs with: " + strings.Join(slices.Compact(externals), ", ") +
				"; install them in the final stage, before the environment step",
		})
	}
	return nil
}
