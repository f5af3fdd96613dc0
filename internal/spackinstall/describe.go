package spackinstall

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// describeScript is run by Spack's Python: it tells what Spack's merged
// configuration means for the environment, as a description.
//
//go:embed describe.py
var describeScript []byte

// A description is what Spack knows about an installed environment.
type description struct {
	Views []struct {
		Root string
		// LinkType is symlink, hardlink or copy.
		LinkType string `json:"link_type"`
		// Filled is set if a package belongs into the view, and Text is all
		// of its configuration.
		Filled bool
		Text   json.RawMessage
	}
	// Implicit are roots that "spack gc" removes.
	Implicit []string
	// Modules are sets of module files, with the packages' hashes, and the
	// directories for MODULEPATH.
	Modules []struct {
		Files   map[string][]string
		Folders []string
	}
	// Script activates the environment where the variables are those of
	// Before.
	Before map[string]string
	Script string
	// Tree is the install tree's root, Upstreams are those of other Spacks.
	Tree      string
	Upstreams []string
	// TargetGiven is set if the configuration names a target of all packages.
	TargetGiven bool `json:"target_given"`
	// text is the environment's spack.yaml.
	text []byte
}

// describe asks Spack for the description.
func (j *Job) describe(ctx context.Context) (*description, error) {
	script, err := j.writeScript("describe.py", describeScript)
	if err != nil {
		return nil, err
	}
	out, err := j.capture(ctx, "python", script, j.dir)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	d := &description{}
	if err := json.Unmarshal(lines[len(lines)-1], d); err != nil {
		return nil, fmt.Errorf("read Spack's description of the environment: %w", err)
	}
	return d, nil
}

// installation describes what has been installed.
func (j *Job) installation(ctx context.Context) (*Installation, error) {
	d, err := j.describe(ctx)
	if err != nil {
		return nil, err
	}
	if d.text, err = j.environmentText(d); err != nil {
		return nil, err
	}
	in := &Installation{Dir: j.dir, Text: stepkey.Of(string(d.text), string(j.lockData))}
	if j.Recipe.Strip {
		in.Variant = "stripped"
	}
	specs, err := j.needed(d)
	if err != nil {
		return nil, err
	}
	prefixes, err := j.prefixes(in, specs, d)
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
	j.reportTarget(specs, d)
	if err := j.addViews(in, d); err != nil {
		return nil, err
	}
	if in.Activation, err = spack.ParseActivation("spack env activate", []byte(d.Script), d.Before); err != nil {
		return nil, err
	}
	return in, j.addModules(in, d)
}

// needed are the packages that the environment's roots need to run, dependencies
// first. Roots of groups with "explicit: false" do not count, as for "spack gc".
func (j *Job) needed(d *description) ([]*spack.Spec, error) {
	var roots []string
	for _, r := range j.lock.Roots {
		if r.Environment != "" || !slices.Contains(d.Implicit, r.Hash) {
			roots = append(roots, r.Hash)
		}
	}
	return j.lock.Specs.Closure(roots, spack.Link, spack.Run)
}

// environmentText returns the environment's spack.yaml. Where the default view
// could have been named by an included scope and was not, it is in spack.yaml now.
func (j *Job) environmentText(d *description) ([]byte, error) {
	if j.mayIncludeView() && j.isDefaultView(d) {
		if err := j.writeEnvironmentFile(true); err != nil {
			return nil, err
		}
	}
	return j.step.Root().ReadIfExists(path.Join(j.dir, spack.EnvironmentFileName))
}

// isDefaultView reports whether the only view is the one that a step adds.
func (j *Job) isDefaultView(d *description) bool {
	return len(d.Views) == 1 && d.Views[0].Root == j.viewRoot()
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
func (j *Job) prefixes(in *Installation, specs []*spack.Spec, d *description) (map[string]string, error) {
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
	trees := d.Upstreams
	if path.IsAbs(d.Tree) && d.Tree != j.installRoot() {
		trees = append([]string{d.Tree}, trees...)
	}
	in.Trees = append(in.Trees, trees...)
	var err error
	for _, tree := range trees {
		err = errors.Join(err, j.addPrefixes(found, tree))
	}
	return found, err
}

// configuration returns a section of Spack's merged configuration.
func (j *Job) configuration(ctx context.Context, section string) ([]byte, error) {
	return j.capture(ctx, "-e", j.dir, "config", "get", section)
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
	data, err := j.configuration(ctx, "upstreams")
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(data, &section); err != nil {
		return nil, fmt.Errorf("read what Spack says of upstreams: %w", err)
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

// unpad returns the directory below all padding, which is the install tree. The
// last directory of a padding may have but the first letters of spack.Placeholder.
func unpad(root *rootfs.Root, tree string) string {
	for {
		entries, err := root.ReadDir(tree)
		if err != nil {
			return tree
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && strings.HasPrefix(e.Name(), spack.Placeholder[:5]) })
		if i < 0 {
			return tree
		}
		tree = path.Join(tree, entries[i].Name())
	}
}

// addViews records the views. One that has packages exists.
func (j *Job) addViews(in *Installation, d *description) error {
	var texts []string
	for _, v := range d.Views {
		_, err := j.step.Root().Lstat(v.Root)
		switch {
		case err == nil:
			in.Views = append(in.Views, path.Clean(v.Root))
			if v.LinkType != "symlink" {
				in.copiedViews = append(in.copiedViews, path.Clean(v.Root))
			}
			texts = append(texts, string(v.Text))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		case v.Filled:
			return &failure.InputError{
				Subject: "view " + v.Root, Err: errors.New("packages are meant for this view, and Spack has not made it"),
				Hint: "see what Spack says of it with 'pdibuild build -v', or leave it out of view:",
			}
		}
	}
	if j.mayIncludeView() && !j.isDefaultView(d) {
		in.ViewText = stepkey.Of(texts...) // else it is in spack.yaml
	}
	return nil
}

// addModules records the module files of the packages that come along, and has
// the activation show them to "module".
func (j *Job) addModules(in *Installation, d *description) error {
	var texts []string
	for _, set := range d.Modules {
		known := len(in.Modules)
		for _, p := range in.Packages {
			for _, name := range set.Files[p.Hash] {
				if slices.Contains(in.Modules, name) {
					continue
				}
				text, err := ReadModule(j.step.Root(), name)
				if err != nil {
					return err
				}
				in.Modules, texts = append(in.Modules, name), append(texts, string(text))
			}
		}
		if len(in.Modules) == known {
			continue
		}
		for _, dir := range slices.Backward(set.Folders) {
			in.Activation = append(in.Activation, spack.Change{Kind: spack.ChangePrepend, Name: "MODULEPATH", Value: dir})
		}
	}
	if len(texts) > 0 {
		in.ModuleText = stepkey.Of(texts...)
	}
	return nil
}

// moduleTime is the time in the comment at the top of a module file.
var moduleTime = regexp.MustCompile(`(?m)^((?:##|--) *Module file created by spack \([^)]*\)) on [0-9]{4}-.*$`)

// ReadModule returns a module file without the time at which it was made.
func ReadModule(root *rootfs.Root, name string) ([]byte, error) {
	text, err := root.ReadFile(name)
	return moduleTime.ReplaceAll(text, []byte("$1")), err
}

// ownVariables are about Spack itself, which no image has.
var ownVariables = []string{"SPACK_ENV", "SPACK_ENV_VIEW", "SPACK_LOADED_HASHES"}

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
		old, ok := base[c.Name]
		return slices.Contains(ownVariables, c.Name) || c.Kind == spack.ChangeSet && ok && old == c.Value
	}), nil
}
