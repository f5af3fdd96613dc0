package builder

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// What an environment step adds beside the packages.
const (
	activateEntrypoint = "activate"
	entrypointScript   = "/entrypoint.sh"
	activateScript     = "activate.sh"
	profileScript      = "/etc/profile.d/spack-environment.sh"
)

// packageLayers is how many layers the packages of an environment become at
// most where the recipe does not say. Overlay mounts up to 500 layers and
// registries accept as many, but Docker stops at 127, and the base image and
// the stage's other steps have some, too.
const packageLayers = 100

// An environmentJob is an environment step being done.
type environmentJob struct {
	*stepRun
	in *installation
	// limit is how many layers the packages become at most.
	limit int
	// source is the stage with the installation, target the one that gets it.
	source, target *rootView
	files          *layerFiles
	// kept are layers of earlier environments by the keys of their packs.
	kept map[string]*storage.Layer
}

// performEnvironment takes over what a spack step has installed, as far as it
// is needed to run: packages in layers of their own, then the views, and what
// activates the environment.
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
	// It is only looked at, so it is clean whatever happens.
	defer func() { err = errors.Join(err, x.bench.give(target, true)) }()
	j := &environmentJob{stepRun: x, in: in, limit: cmp.Or(step.Layers, packageLayers), source: &rootView{Root: wk.root}, target: &rootView{Root: target.root}}
	if j.files, err = newLayerFiles(x.run.b.store, from.layer); err != nil {
		return cache.Record{}, err
	}
	defer j.files.close()
	if j.kept, err = x.run.b.packLayers(); err != nil {
		return cache.Record{}, err
	}
	return j.layers(ctx, s.layer)
}

// layers makes all layers, one on top of the other.
func (j *environmentJob) layers(ctx context.Context, parent string) (cache.Record, error) {
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
	retaken := 0
	for _, pack := range packs {
		rec, again, err := j.keepPack(ctx, parent, pack)
		if err != nil {
			return cache.Record{}, err
		}
		add(rec, packNote(pack))
		if again {
			retaken++
		}
	}
	info := j.event(progress.Info)
	info.Text = fmt.Sprintf("%d packages in %d layers, of which %d are known from earlier environments and were not read", len(j.in.Packages), len(packs), retaken)
	j.run.emit(info)
	tree, err := j.environmentTree()
	if err != nil {
		return cache.Record{}, err
	}
	rec, err := j.keepOnTarget(ctx, target{parent: parent}, tree)
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

// keepOnTarget makes a layer of a tree, with the directories above it as the
// stage has them.
func (j *environmentJob) keepOnTarget(ctx context.Context, to target, tree *layer.Tree) (cache.Record, error) {
	if err := j.target.addParents(tree); err != nil {
		return cache.Record{}, err
	}
	return j.keep(ctx, to, tree, layer.Options{OneTime: true})
}

// packs distributes the packages over layers, by what the layers will have of
// them: build logs, for one, differ between a package that was compiled and the
// same one from a binary cache.
func (j *environmentJob) packs() ([][]installedPackage, error) {
	items := make([]layer.Item, len(j.in.Packages))
	for i, p := range j.in.Packages {
		size, err := packageSize(j.source, p)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", p, err)
		}
		items[i] = layer.Item{Name: p.Name, Size: size}
	}
	var packs [][]installedPackage
	for _, pack := range layer.Pack(items, j.limit) {
		var packages []installedPackage
		for _, i := range pack {
			packages = append(packages, j.in.Packages[i])
		}
		packs = append(packs, packages)
	}
	return packs, nil
}

// packageSize is how many bytes the files of a package have in its layer.
func packageSize(source *rootView, p installedPackage) (size int64, err error) {
	files := &buildcontext.Selection{Root: source.Root, Exclude: packageMetadata}
	prefix, err := files.Within(p.Prefix)
	if err != nil {
		return 0, err
	}
	err = files.Walk(&prefix, func(f *rootfs.File, _ string) error {
		if f.Info.Mode().IsRegular() {
			size += f.Info.Size()
		}
		return nil
	})
	return size, err
}

// packageMetadata is what Spack notes in a prefix about its making: build logs
// with times and paths of the host. The spec stays, which says what it is.
var packageMetadata = []string{".spack/*", "!.spack/spec.json"}

// packTree holds the prefixes of packages.
func (j *environmentJob) packTree(pack []installedPackage) (*layer.Tree, error) {
	tree := &layer.Tree{}
	for _, p := range pack {
		c := j.copier(tree, p.Prefix, packageMetadata)
		if err := c.copyDirectory(p.Prefix); err != nil {
			return nil, fmt.Errorf("copy %s: %w", p, err)
		}
	}
	return tree, nil
}

// packNote names packages for the history of an image.
func packNote(pack []installedPackage) string {
	var names []string
	for _, p := range pack {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// copier copies a directory of the source to the same place.
func (j *environmentJob) copier(tree *layer.Tree, to string, exclude []string) *stageCopier {
	return &stageCopier{
		copier:    &copier{tree: tree, to: to, mode: buildcontext.KeptMode},
		Selection: buildcontext.Selection{Root: j.source.Root, Exclude: exclude}, files: j.files, adjust: archiveMode,
	}
}

// archiveMode gives a file the mode that it has in Spack's binary caches
// (reproducible_tarfile_from_prefix in Spack's util/archive.py), where only the
// owner's right to execute is kept: so a package that was compiled is the same
// as one from a cache. No file of a package is setuid.
func archiveMode(e *layer.Entry) {
	switch {
	case e.Header.Typeflag == tar.TypeDir, e.Header.Mode&0o100 != 0:
		e.Header.Mode = 0o755
	default:
		e.Header.Mode = 0o644
	}
}

// environmentTree holds the views, the environment's own files, and what
// activates it.
func (j *environmentJob) environmentTree() (*layer.Tree, error) {
	tree := &layer.Tree{}
	for _, view := range j.in.Views {
		if err := j.addView(tree, view); err != nil {
			return nil, fmt.Errorf("copy the view %s: %w", view, err)
		}
	}
	c := &copier{tree: tree, mode: buildcontext.KeptMode}
	if err := j.addSbang(c); err != nil {
		return nil, err
	}
	for _, name := range []string{spack.EnvironmentFileName, spack.LockFileName} {
		data, err := j.environmentFile(name)
		if err != nil {
			return nil, err
		}
		if err := c.add(layer.Entry{Header: regular(path.Join(j.in.Dir, name), int64(len(data))), Open: layer.Bytes(data)}); err != nil {
			return nil, err
		}
	}
	if err := j.addLicenses(c); err != nil {
		return nil, err
	}
	activate := path.Join(j.in.Dir, activateScript)
	scripts := map[string]string{
		activate:         activationScript(j.in.Activation),
		profileScript:    "# Login shells get the Spack environment, too.\n. " + activate + "\n",
		entrypointScript: "#!/bin/sh\n# Activates the Spack environment and runs the command.\n. " + activate + "\nexec \"$@\"\n",
	}
	for name, text := range scripts {
		hdr := regular(name, int64(len(text)))
		if name == entrypointScript {
			hdr.Mode = 0o755
		}
		if err := c.add(layer.Entry{Header: hdr, Open: layer.Bytes([]byte(text))}); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// addSbang adds the program sbang of the install trees: it starts scripts whose
// interpreter has too long a path for the kernel, as those of padded trees have.
func (j *environmentJob) addSbang(c *copier) error {
	for _, root := range append([]string{spackInstallRoot}, j.in.Trees...) {
		name := path.Join(root, "bin/sbang")
		data, err := j.source.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		hdr := regular(name, int64(len(data)))
		hdr.Mode = 0o755
		if err := c.add(layer.Entry{Header: hdr, Open: layer.Bytes(data)}); err != nil {
			return err
		}
	}
	return nil
}

// licensesFile says under which licence each package is, by its hash, for those
// who look into the image.
const licensesFile = "licenses.json"

func (j *environmentJob) addLicenses(c *copier) error {
	licenses := map[string]string{}
	for _, p := range j.in.Packages {
		if p.License != "" {
			licenses[p.Hash] = p.License
		}
	}
	if len(licenses) == 0 {
		return nil
	}
	data, err := json.MarshalIndent(licenses, "", "  ") // in the order of the keys
	if err != nil {
		return err
	}
	data = append(data, '\n')
	return c.add(layer.Entry{Header: regular(path.Join(j.in.Dir, licensesFile), int64(len(data))), Open: layer.Bytes(data)})
}

// environmentFile returns spack.yaml or spack.lock as the image gets it: what
// the environment includes was for building it.
func (j *environmentJob) environmentFile(name string) ([]byte, error) {
	data, err := j.source.read(path.Join(j.in.Dir, name))
	if err != nil || name != spack.EnvironmentFileName {
		return data, err
	}
	env, err := spack.ParseEnvironment(name, data)
	if err != nil {
		return nil, err
	}
	return env.Rewrite(spack.Remove("include"))
}

// addView adds a view and, where its root is a link to it, as Spack makes
// them, the directory behind it.
func (j *environmentJob) addView(tree *layer.Tree, root string) error {
	f, err := j.source.File(root)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := root
	if f.Info.Mode()&fs.ModeSymlink != 0 {
		e, err := fileEntry(f, root, &hardLinks{})
		if err != nil {
			return err
		}
		if err := (&copier{mode: buildcontext.KeptMode, tree: tree}).add(e); err != nil {
			return err
		}
		if dir, err = j.source.Resolve(root); err != nil {
			return err
		}
	}
	c := j.copier(tree, dir, []string{".spack", ".spack-db", "**/.spack-empty"})
	c.drop = j.foreignLink
	return c.copyDirectory(dir)
}

// foreignLink reports whether a link of a view leads to a package that does
// not come along.
func (j *environmentJob) foreignLink(f *rootfs.File) bool {
	if f.Info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	to, err := f.Readlink()
	if err != nil || !j.in.installed(to) {
		return false
	}
	return !slices.ContainsFunc(j.in.Packages, func(p installedPackage) bool {
		return to == p.Prefix || strings.HasPrefix(to, p.Prefix+"/")
	})
}

// activationScript makes the changes of an activation in a POSIX shell. It may
// be read several times: what is in a path already is not added again.
func activationScript(changes spack.Activation) string {
	var b strings.Builder
	b.WriteString("# Makes the programs of the Spack environment usable. It may be read again.\n")
	for _, c := range changes {
		value := shellQuote(c.Value)
		switch c.Kind {
		case spack.ChangeUnset:
			fmt.Fprintf(&b, "unset %s\n", c.Name)
		case spack.ChangePrepend, spack.ChangeAppend:
			joined := value + "${" + c.Name + ":+:${" + c.Name + "}}"
			if c.Kind == spack.ChangeAppend {
				joined = "${" + c.Name + ":+${" + c.Name + "}:}" + value
			}
			fmt.Fprintf(&b, "case \":${%s-}:\" in *:%s:*) ;; *) export %s=%s ;; esac\n", c.Name, value, c.Name, joined)
		default:
			fmt.Fprintf(&b, "export %s=%s\n", c.Name, value)
		}
	}
	return b.String()
}

// shellQuote makes one word of a shell of any text.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
