package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// installation describes what has been installed.
func (j *Job) installation(ctx context.Context) (*Installation, error) {
	text, err := j.step.Root().ReadIfExists(path.Join(j.dir, spack.EnvironmentFileName))
	if err != nil {
		return nil, err
	}
	in := &Installation{Dir: j.dir, Text: stepkey.Of(string(text), string(j.lockData))}
	if j.Recipe.Strip {
		in.Variant = "stripped"
	}
	specs, err := j.lock.Closure(spack.Link, spack.Run)
	if err != nil {
		return nil, err
	}
	prefixes, err := j.prefixes(ctx, in, specs)
	if err != nil {
		return nil, err
	}
	for _, s := range specs {
		p := Package{Name: s.Name, Version: s.Version, Hash: s.Hash, developed: j.developed[s.Hash]}
		if s.External != nil {
			p.Prefix = s.External.Path
			in.Externals = append(in.Externals, p)
			continue
		}
		if p.Prefix = prefixes[s.Hash]; p.Prefix == "" {
			return nil, fmt.Errorf("%s was installed, but Spack's database does not have it", p)
		}
		p.License = licenseOf(j.step.Root(), p)
		in.Packages = append(in.Packages, p)
	}
	if err := j.addViews(in); err != nil {
		return nil, err
	}
	in.Activation, err = j.activation(ctx)
	return in, err
}

// licenseOf returns the licence of an installed package. The files with it are not
// copied into an image: one has the time of the installation.
func licenseOf(root *rootfs.Root, p Package) string {
	bill, err := root.ReadIfExists(path.Join(p.Prefix, spack.SBOMFile))
	if err == nil && len(bill) > 0 {
		return spack.DeclaredLicense(bill, p.Name, p.Version)
	}
	// The dependencies' recipes are beside it. An old Spack has none.
	repos := path.Join(rootfs.QuoteMeta(p.Prefix), ".spack/repos")
	directory := strings.ReplaceAll(p.Name, "-", "_")
	for _, pattern := range []string{"*/packages/", "*/*/packages/"} {
		for _, name := range []string{directory, p.Name} {
			found, _ := root.Glob(path.Join(repos, pattern, name, spack.RecipeFile)) // the pattern is right
			for _, f := range found {
				if recipe, err := root.ReadFile(f); err == nil {
					return spack.RecipeLicense(recipe)
				}
			}
		}
	}
	return ""
}

// prefixes are the install prefixes by hash, from the database of the install
// tree that spack.yaml names and, for packages that it lacks, from those of the
// one that another scope names and of the upstreams. It records these trees in
// the installation.
func (j *Job) prefixes(ctx context.Context, in *Installation, specs []*spack.Spec) (map[string]string, error) {
	found := map[string]string{}
	if root := j.installRoot(); root != InstallRoot {
		in.Trees = []string{root}
	}
	if err := j.addPrefixes(found, j.installRoot()); err != nil {
		return nil, err
	}
	lacks := func(s *spack.Spec) bool { return s.External == nil && found[s.Hash] == "" }
	if !slices.ContainsFunc(specs, lacks) {
		return found, nil
	}
	root, err := j.configuredRoot(ctx)
	if err != nil {
		return nil, err
	}
	trees, err := j.upstreams(ctx)
	if path.IsAbs(root) && root != j.installRoot() {
		trees = append([]string{root}, trees...)
	}
	in.Trees = append(in.Trees, trees...)
	for _, tree := range trees {
		err = errors.Join(err, j.addPrefixes(found, tree))
	}
	return found, err
}

// configuredRoot is the install tree's root in Spack's configuration, from
// whichever scope names it.
func (j *Job) configuredRoot(ctx context.Context) (string, error) {
	var section struct {
		Config struct {
			InstallTree struct{ Root string } `yaml:"install_tree"`
		}
	}
	err := j.configuration(ctx, "config", &section)
	return section.Config.InstallTree.Root, err
}

// configuration reads a section of Spack's configuration.
func (j *Job) configuration(ctx context.Context, name string, section any) error {
	data, err := j.capture(ctx, "-e", j.dir, "config", "get", name)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, section); err != nil {
		return fmt.Errorf("read what Spack says of %s: %w", name, err)
	}
	return nil
}

func (j *Job) installRoot() string {
	if set := j.Inputs.env.InstallTree.Root; path.IsAbs(set) {
		return set
	}
	return InstallRoot
}

// alreadyInstalled returns the packages that need not be installed, since another
// environment of the stage or an upstream has them: prefixes by hash.
func (j *Job) alreadyInstalled(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	if err := j.addPrefixes(found, j.installRoot()); err != nil {
		return nil, err
	}
	if !j.Inputs.mayHaveUpstreams(j.Recipe) {
		return found, nil // to ask Spack takes seconds
	}
	trees, err := j.upstreams(ctx)
	for _, tree := range trees {
		err = errors.Join(err, j.addPrefixes(found, tree))
	}
	return found, err
}

// upstreams are the install trees of other Spack installations that this one
// uses, from whichever scope names them.
func (j *Job) upstreams(ctx context.Context) ([]string, error) {
	var section struct {
		Upstreams map[string]struct {
			InstallTree string `yaml:"install_tree"`
		}
	}
	if err := j.configuration(ctx, "upstreams", &section); err != nil {
		return nil, err
	}
	var trees []string
	for _, u := range section.Upstreams {
		trees = append(trees, u.InstallTree)
	}
	slices.Sort(trees)
	return trees, nil
}

// addPrefixes adds the packages of an install tree that are not in found yet.
func (j *Job) addPrefixes(found map[string]string, tree string) error {
	f, err := j.step.Root().Open(path.Join(unpad(j.step.Root(), tree), ".spack-db/index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	db, err := spack.ReadDatabase(f)
	if err != nil {
		return err
	}
	for hash, i := range db.Installs {
		if i.Installed && found[hash] == "" {
			found[hash] = i.Prefix
		}
	}
	return nil
}

// paddingStart begins the names of the directories with which Spack makes the root
// of an install tree as long as config:install_tree:padded_length.
const paddingStart = "__spack_path_pl"

// unpad returns the directory below all padding, which is the install tree.
func unpad(root *rootfs.Root, tree string) string {
	for {
		entries, err := root.ReadDir(tree)
		if err != nil {
			return tree
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && strings.HasPrefix(e.Name(), paddingStart[:5]) })
		if i < 0 {
			return tree
		}
		tree = path.Join(tree, entries[i].Name())
	}
}

// addViews records the views that exist.
func (j *Job) addViews(in *Installation) error {
	v := j.Inputs.env.View
	var roots []string
	switch {
	case v.Disabled:
	case v.Path != "":
		roots = []string{v.Path}
	case len(v.Named) > 0:
		for _, n := range v.Named {
			roots = append(roots, n.Root)
		}
	default:
		roots = []string{j.viewRoot()}
	}
	for _, root := range roots {
		if !path.IsAbs(root) {
			root = path.Join(j.dir, root)
		}
		if _, err := j.step.Root().Lstat(root); err == nil {
			in.Views = append(in.Views, path.Clean(root))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// activation asks Spack what activating the environment changes. Variables
// that are about Spack itself are left out: the image has none.
func (j *Job) activation(ctx context.Context) (spack.Activation, error) {
	return j.changes(ctx, "spack env activate", "env", "activate", "--sh", "--dir", j.dir)
}

// changes are those of variables that a command of Spack prints for a shell.
// Name stands for the command in messages.
func (j *Job) changes(ctx context.Context, name string, args ...string) (spack.Activation, error) {
	script, err := j.capture(ctx, args...)
	if err != nil {
		return nil, err
	}
	base := map[string]string{}
	for _, kv := range j.env {
		variable, value, _ := strings.Cut(kv, "=")
		base[variable] = value
	}
	changes, err := spack.ParseActivation(name, script, base)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(changes, func(c spack.Change) bool {
		return strings.HasPrefix(c.Name, "SPACK_") || c.Kind == spack.ChangeSet && base[c.Name] == c.Value
	}), nil
}
