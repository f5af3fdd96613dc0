// Package envlayers does the environment step: it copies what a spack step has
// installed into another stage, as far as it is needed to run. Packages become
// layers of their own, so that an unchanged package is neither copied nor pushed
// again; the views and the files that activate the environment follow.
package envlayers

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// DefaultLayers is how many layers the packages of an environment become at most
// where the recipe names no number. Overlay mounts up to 500 layers and registries
// accept as many, but Docker stops at 127, and the base image and the stage's
// other steps need some.
const DefaultLayers = 100

// A Step is what a job asks of the step that runs it.
type Step interface {
	Walker
	// Source is the root of the stage with the installation.
	Source() *rootfs.Root
	// Target is the root of the stage that gets it.
	Target() *rootfs.Root
	// CopyDir adds the contents of a directory of the source to a tree, under
	// the same names. Sockets are left out.
	CopyDir(tree *layer.Tree, dir string, opt CopyOptions) error
	// AddParents adds the directories above the entries of a tree, as the stage
	// has them that gets the environment.
	AddParents(tree *layer.Tree) error
	// Commit makes a layer of a tree. Reuse finds it by its key, if that is not
	// empty.
	Commit(ctx context.Context, to Target, tree *layer.Tree) (cache.Record, error)
	// Reuse makes the layer with the key once more without reading a file. It
	// returns false if that cannot be done.
	Reuse(ctx context.Context, to Target) (cache.Record, bool)
	// Emit reports progress of the step.
	Emit(e progress.Event)
}

// A Walker calls do for each file that CopyDir would copy.
type Walker interface {
	Walk(dir string, exclude []string, do func(*rootfs.File) error) error
}

// CopyOptions change what CopyDir does. The zero value copies all as it is.
type CopyOptions struct {
	// Exclude are patterns for paths below the directory.
	Exclude []string
	// Drop leaves a file out, Adjust changes an entry; both may be nil.
	Drop   func(*rootfs.File) bool
	Adjust func(*layer.Entry)
}

// A Target is the layer below a new one, and the key of the new one.
type Target struct{ Parent, Key string }

// A Job is an environment step that is executed.
type Job struct {
	Step Step
	In   *spackinstall.Installation
	// Layers is how many layers the packages become at most.
	Layers int
	// Epoch is the time of all files.
	Epoch int64
	// Activation is the one for the image, and Getenv returns the variables of
	// the image before.
	Activation spack.Activation
	Getenv     func(name string) (string, bool)
}

// Run makes the layers, one on top of the other, and returns them as one record.
func (j *Job) Run(ctx context.Context, parent string) (cache.Record, error) {
	var made []cache.Layer
	add := func(rec cache.Record, note string) {
		if rec.Added {
			made = append(made, cache.Layer{ID: rec.Layer, DiffID: rec.DiffID, Note: note})
			parent = rec.Layer
		}
	}
	packs, err := j.packs()
	if err != nil {
		return cache.Record{}, err
	}
	reused := 0
	for _, pack := range packs {
		rec, again, err := j.commitPack(ctx, parent, pack)
		if err != nil {
			return cache.Record{}, err
		}
		add(rec, packNote(pack))
		if again {
			reused++
		}
	}
	j.Step.Emit(progress.Event{
		Kind: progress.Info,
		Text: fmt.Sprintf("%d packages in %d layers, of which %d are known from earlier environments and were not read", len(j.In.Packages), len(packs), reused),
	})
	tree, err := j.environmentTree()
	if err != nil {
		return cache.Record{}, err
	}
	rec, err := j.commit(ctx, Target{Parent: parent}, tree)
	if err != nil {
		return cache.Record{}, err
	}
	add(rec, "views and activation")
	if len(made) == 0 {
		return cache.Record{Layer: parent}, nil
	}
	top := made[len(made)-1]
	return cache.Record{Layer: top.ID, DiffID: top.DiffID, Added: true, Note: top.Note, Below: made[:len(made)-1]}, nil
}

// commit makes a layer of a tree, with the directories above its entries.
func (j *Job) commit(ctx context.Context, to Target, tree *layer.Tree) (cache.Record, error) {
	if err := j.Step.AddParents(tree); err != nil {
		return cache.Record{}, err
	}
	return j.Step.Commit(ctx, to, tree)
}

// packs distributes the packages over layers by their sizes in these layers. Build
// logs, for one, are in none: they differ between a package that was compiled and
// the same one from a binary cache.
func (j *Job) packs() ([][]spackinstall.Package, error) {
	items := make([]layer.Item, len(j.In.Packages))
	for i, p := range j.In.Packages {
		size, err := PackageSize(j.Step, p)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", p, err)
		}
		items[i] = layer.Item{Name: p.Name, Size: size}
	}
	var packs [][]spackinstall.Package
	for _, pack := range layer.Pack(items, j.Layers) {
		var packages []spackinstall.Package
		for _, i := range pack {
			packages = append(packages, j.In.Packages[i])
		}
		packs = append(packs, packages)
	}
	return packs, nil
}

// PackageSize returns how many bytes the files of a package have in its layer.
func PackageSize(w Walker, p spackinstall.Package) (size int64, err error) {
	err = w.Walk(p.Prefix, packageMetadata, func(f *rootfs.File) error {
		if f.Info.Mode().IsRegular() {
			size += f.Info.Size()
		}
		return nil
	})
	return size, err
}

// packageMetadata excludes Spack's records about the build of a package, such as
// logs with times and paths of the host. The spec stays, which describes it.
var packageMetadata = []string{".spack/*", "!.spack/spec.json"}

// commitPack makes the layer of some packages. Spack's hash of a package
// identifies the contents of its prefix, so that the layer of an earlier
// environment is reused without reading them, if it is still in the store.
func (j *Job) commitPack(ctx context.Context, parent string, pack []spackinstall.Package) (rec cache.Record, reused bool, err error) {
	if err := ctx.Err(); err != nil {
		return rec, false, context.Cause(ctx)
	}
	to := Target{Parent: parent}
	if to.Key, err = j.packKey(pack); err != nil {
		return rec, false, err
	}
	if rec, ok := j.Step.Reuse(ctx, to); ok {
		return rec, true, nil
	}
	tree := &layer.Tree{}
	for _, p := range pack {
		if err := j.Step.CopyDir(tree, p.Prefix, CopyOptions{Exclude: packageMetadata, Adjust: archiveMode}); err != nil {
			return rec, false, fmt.Errorf("copy %s: %w", p, err)
		}
	}
	rec, err = j.commit(ctx, to, tree)
	return rec, false, err
}

// packKey identifies all that the layer of packages depends on: the packages, and
// the directories above them as the stage has them.
func (j *Job) packKey(pack []spackinstall.Package) (string, error) {
	above := &layer.Tree{}
	for _, p := range pack {
		if err := above.Add(file(path.Join(p.Prefix, "x"), 0o644, nil)); err != nil {
			return "", err
		}
	}
	if err := j.Step.AddParents(above); err != nil {
		return "", err
	}
	sum := digest.SHA256.Digester()
	if _, err := above.Encode(sum.Hash(), layer.Options{OneTime: true}); err != nil {
		return "", err
	}
	return stepkey.Of("pack", stepkey.JSON(pack), j.In.Variant, fmt.Sprint(j.Epoch), sum.Digest().String()), nil
}

// packNote names packages for the history of an image.
func packNote(pack []spackinstall.Package) string {
	var names []string
	for _, p := range pack {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}
