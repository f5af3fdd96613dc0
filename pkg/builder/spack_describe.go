package builder

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// installation describes what has been installed.
func (j *spackJob) installation(ctx context.Context) (*installation, error) {
	text, err := (&rootView{Root: j.wk.root}).read(path.Join(j.dir, spack.EnvironmentFileName))
	if err != nil {
		return nil, err
	}
	in := &installation{Dir: j.dir, Text: keyOf(string(text), string(j.lockData))}
	if j.step.Strip {
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
		p := installedPackage{Name: s.Name, Version: s.Version, Hash: s.Hash}
		if s.External != nil {
			p.Prefix = s.External.Path
			in.Externals = append(in.Externals, p)
			continue
		}
		if p.Prefix = prefixes[s.Hash]; p.Prefix == "" {
			return nil, fmt.Errorf("%s was installed, but Spack's database does not have it", p)
		}
		p.License = licenseOf(&rootView{Root: j.wk.root}, p)
		in.Packages = append(in.Packages, p)
	}
	if err := j.addViews(in); err != nil {
		return nil, err
	}
	in.Activation, err = j.activation(ctx)
	return in, err
}

// licenseOf is the licence of an installed package. The files that say it are
// not taken along into an image: one has the time of the installation.
func licenseOf(view *rootView, p installedPackage) string {
	bill, err := view.read(path.Join(p.Prefix, spack.SBOMFile))
	if err == nil && len(bill) > 0 {
		return spack.DeclaredLicense(bill, p.Name, p.Version)
	}
	// The dependencies' recipes are there, too. An old Spack has none.
	repos := path.Join(rootfs.QuoteMeta(p.Prefix), ".spack/repos")
	directory := strings.ReplaceAll(p.Name, "-", "_")
	for _, pattern := range []string{"*/packages/", "*/*/packages/"} {
		for _, name := range []string{directory, p.Name} {
			found, _ := view.Glob(path.Join(repos, pattern, name, spack.RecipeFile)) // the pattern is right
			for _, f := range found {
				if recipe, err := view.ReadFile(f); err == nil {
					return spack.RecipeLicense(recipe)
				}
			}
		}
	}
	return ""
}

// prefixes are the install prefixes by hash, from the database of the install
// tree that spack.yaml names and, for packages that it lacks, from those of the
// one that another scope names and of the upstreams. It notes these trees in
// the installation.
func (j *spackJob) prefixes(ctx context.Context, in *installation, specs []*spack.Spec) (map[string]string, error) {
	found := map[string]string{}
	if root := j.installRoot(); root != spackInstallRoot {
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
func (j *spackJob) configuredRoot(ctx context.Context) (string, error) {
	var section struct {
		Config struct {
			InstallTree struct{ Root string } `yaml:"install_tree"`
		}
	}
	err := j.configuration(ctx, "config", &section)
	return section.Config.InstallTree.Root, err
}

// configuration reads a section of Spack's configuration.
func (j *spackJob) configuration(ctx context.Context, name string, section any) error {
	data, err := j.capture(ctx, "-e", j.dir, "config", "get", name)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, section); err != nil {
		return fmt.Errorf("read what Spack says of %s: %w", name, err)
	}
	return nil
}

func (j *spackJob) installRoot() string {
	if set := j.in.env.InstallTree.Root; path.IsAbs(set) {
		return set
	}
	return spackInstallRoot
}

// there are the packages that need not be installed, since another environment
// of the stage or an upstream has them: prefixes by hash.
func (j *spackJob) there(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	if err := j.addPrefixes(found, j.installRoot()); err != nil {
		return nil, err
	}
	if !j.in.mayHaveUpstreams(j.step) {
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
func (j *spackJob) upstreams(ctx context.Context) ([]string, error) {
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

// addPrefixes adds the packages of an install tree that are not there yet.
func (j *spackJob) addPrefixes(found map[string]string, tree string) error {
	f, err := j.wk.root.Open(path.Join(unpad(j.wk.root, tree), ".spack-db/index.json"))
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

// paddingStart is how the directories begin with which Spack makes the root of
// an install tree as long as config:install_tree:padded_length says.
const paddingStart = "__spack_path_pl"

// unpad returns the directory below all padding: there the install tree is.
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

// addViews notes the views that are there.
func (j *spackJob) addViews(in *installation) error {
	v := j.in.env.View
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
		if _, err := j.wk.root.Lstat(root); err == nil {
			in.Views = append(in.Views, path.Clean(root))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// activation asks Spack what activating the environment changes. Variables
// that are about Spack itself are left out: the image has none.
func (j *spackJob) activation(ctx context.Context) (spack.Activation, error) {
	return j.changes(ctx, "spack env activate", "env", "activate", "--sh", "--dir", j.dir)
}

// changes are those of variables that a command of Spack prints for a shell.
// Name stands for the command in messages.
func (j *spackJob) changes(ctx context.Context, name string, args ...string) (spack.Activation, error) {
	script, err := j.capture(ctx, args...)
	if err != nil {
		return nil, err
	}
	base := map[string]string{}
	for _, kv := range j.request.Env {
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

// An elfKind says what strip may take from a file.
type elfKind int

const (
	elfNone elfKind = iota
	elfProgram
	elfShared
	elfArchive
)

// kindOf looks at the first bytes and, for ELF, at the header: kernel modules
// and object files are relocatable, and they are left as they are.
func kindOf(f io.ReaderAt) elfKind {
	magic := make([]byte, 8)
	if n, err := f.ReadAt(magic, 0); n < len(magic) && err != nil {
		return elfNone
	}
	if bytes.Equal(magic, []byte("!<arch>\n")) {
		return elfArchive
	}
	if !bytes.Equal(magic[:4], []byte(elf.ELFMAG)) {
		return elfNone
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return elfNone
	}
	switch {
	case e.Type == elf.ET_EXEC:
		return elfProgram
	case e.Type == elf.ET_DYN && slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }):
		return elfProgram
	case e.Type == elf.ET_DYN:
		return elfShared
	}
	return elfNone
}

// stripFlags are what strip is told for each kind. Shared libraries keep what
// the dynamic linker needs; archives keep their symbols and the index, which
// linking needs.
var stripFlags = map[elfKind]string{
	elfProgram: "--strip-all",
	elfShared:  "--strip-unneeded",
	elfArchive: "--strip-debug --enable-deterministic-archives",
}

// strip takes symbols and debug information out of the installed packages.
// The binary cache has them as they were.
func (j *spackJob) strip(ctx context.Context, in *installation) error {
	if !j.step.Strip {
		return nil
	}
	lists := map[elfKind][]string{}
	for _, p := range in.Packages {
		if err := j.sortByKind(p.Prefix, lists); err != nil {
			return err
		}
	}
	script := "command -v strip >/dev/null || { echo 'no strip in this image' >&2; exit 77; }\n"
	for _, kind := range []elfKind{elfProgram, elfShared, elfArchive} {
		if len(lists[kind]) == 0 {
			continue
		}
		list := fmt.Sprintf("strip-%d", kind)
		err := j.inLent("out", func(root *rootfs.Root) error {
			return root.WriteFile(list, []byte(strings.Join(lists[kind], "\x00")+"\x00"))
		})
		if err != nil {
			return err
		}
		script += fmt.Sprintf("xargs -0 -n 50 -P %d strip %s < %s || true\n", j.jobs(), stripFlags[kind], path.Join(spackLentOut, list))
	}
	cmd := j.command()
	cmd.argv = []string{"/bin/sh", "-c", script}
	err := j.exec(ctx, cmd)
	var step *StepError
	if errors.As(err, &step) && step.ExitCode == 77 {
		j.warn("the image has no strip (package binutils): programs and libraries keep their symbols")
		return nil
	}
	return err
}

// sortByKind finds what can be stripped below a prefix.
func (j *spackJob) sortByKind(prefix string, lists map[elfKind][]string) error {
	return j.wk.root.Walk(prefix, func(f *rootfs.File) error {
		if !f.Info.Mode().IsRegular() {
			return nil
		}
		file, err := j.wk.root.OpenExact(f.Name)
		if err != nil {
			return err
		}
		defer file.Close()
		if kind := kindOf(file); kind != elfNone {
			lists[kind] = append(lists[kind], f.Name)
		}
		return nil
	})
}
