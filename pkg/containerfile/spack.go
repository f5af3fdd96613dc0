package containerfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// The places of Spack's own images and scripts, which builds use as well.
const (
	environmentDir = "/opt/spack-environment"
	installRoot    = "/opt/software"
	viewRoot       = "/opt/views/view"
	entrypoint     = "/entrypoint.sh"
	profile        = "/etc/profile.d/spack-environment.sh"
)

// An environment is a spack step, taken apart.
type environment struct {
	step recipe.SpackInstall
	env  *spack.Environment
	// dir is the environment's directory in the image, root where packages go.
	dir, root string
	// manifest is spack.yaml as it is in the image.
	manifest string
	// files are what of the context the environment needs.
	files []placed
	// repos are the package repositories among them.
	repos []string
}

// placed is a file or directory of the context and its place in the image.
type placed struct{ from, to string }

// environment reads what a spack step names.
func (s *source) environment(step recipe.SpackInstall) (*environment, error) {
	name, data, err := s.environmentFile(step)
	if err != nil {
		return nil, err
	}
	e := &environment{step: step, dir: environmentDir, root: installRoot}
	if step.Name != "" {
		e.dir += "-" + step.Name
	}
	if e.env, err = spack.ParseEnvironment(name, data); err != nil {
		return nil, err
	}
	if root := e.env.InstallTree.Root; root != "" {
		e.root = root
	}
	if err := e.addFiles(s); err != nil {
		return nil, err
	}
	return e, e.rewrite()
}

func (s *source) environmentFile(step recipe.SpackInstall) (name string, data []byte, err error) {
	if step.Environment == "" {
		inline := step.Inline
		if _, ok := inline["spack"]; !ok {
			inline = map[string]any{"spack": inline}
		}
		data, err = yaml.Marshal(inline)
		return "the recipe's environment", data, err
	}
	data, err = s.read(step.Environment)
	if err != nil {
		return "", nil, fmt.Errorf("read the environment: %w; its path starts at the build context", err)
	}
	return step.Environment, data, nil
}

// read reads a file of the context.
func (s *source) read(name string) ([]byte, error) {
	if s.context == nil {
		return nil, fmt.Errorf("%s: there is no build context", name)
	}
	return fs.ReadFile(s.context, inContext(name))
}

func inContext(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// addFiles finds out what of the context belongs to the environment.
func (e *environment) addFiles(s *source) error {
	dir := path.Dir(e.step.Environment)
	lock := path.Join(dir, spack.LockFileName)
	if _, err := s.read(lock); e.step.Environment != "" && err == nil {
		e.files = append(e.files, placed{lock, path.Join(e.dir, spack.LockFileName)})
	}
	for i, repo := range e.step.Repos {
		if err := e.addRepo(s, repo, fmt.Sprintf("repos/%d", i+1)); err != nil {
			return err
		}
	}
	for i, scope := range e.step.Scopes {
		e.files = append(e.files, placed{scope, path.Join(e.dir, fmt.Sprintf("scopes/%d", i+1))})
	}
	var beside []string
	for _, r := range e.env.Repos {
		beside = append(beside, r.Path)
	}
	for _, i := range e.env.Include {
		if i.Git == "" {
			beside = append(beside, i.Path)
		}
	}
	for _, name := range beside {
		u, err := url.Parse(name)
		if name == "" || path.IsAbs(name) || strings.ContainsAny(name[:1], "$~") || err == nil && u.Scheme != "" {
			continue
		}
		e.files = append(e.files, placed{path.Join(dir, name), path.Join(e.dir, name)})
	}
	return nil
}

// addRepo adds a directory with a package repository. Since version 2 of their
// interface they are Python packages below a directory spack_repo.
func (e *environment) addRepo(s *source, dir, below string) error {
	var found []string
	root := inContext(dir)
	if s.context == nil {
		return fmt.Errorf("read the package repository %s: there is no build context", dir)
	}
	err := fs.WalkDir(s.context, root, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && path.Base(name) == "repo.yaml" {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the package repository %s: %w", dir, err)
	}
	if len(found) != 1 {
		return fmt.Errorf("repos: %s has %d package repositories; name the directory with repo.yaml in it", dir, len(found))
	}
	to := path.Join(e.dir, below)
	at := strings.TrimPrefix(strings.TrimPrefix(path.Dir(found[0]), root), "/")
	if at == "" {
		to = path.Join(to, s.repoPlace(found[0]))
	}
	e.files = append(e.files, placed{dir, to})
	e.repos = append(e.repos, path.Join(to, at))
	return nil
}

func (s *source) repoPlace(file string) string {
	var f struct {
		Repo struct{ Namespace, API string }
	}
	data, err := s.read(file)
	if err != nil || yaml.Unmarshal(data, &f) != nil || !strings.HasPrefix(f.Repo.API, "v2") {
		return ""
	}
	return path.Join("spack_repo", strings.ReplaceAll(f.Repo.Namespace, ".", "/"))
}

// rewrite makes the image's spack.yaml.
func (e *environment) rewrite() error {
	edits := []spack.Edit{spack.Remove("container")}
	if e.env.InstallTree.Root == "" {
		edits = append(edits, spack.Set(installRoot, "config", "install_tree", "root"))
	}
	if v := e.env.View; !v.Disabled && v.Path == "" && len(v.Named) == 0 {
		edits = append(edits, spack.Set(e.defaultView(), "view"))
	}
	if len(e.step.Scopes) > 0 {
		var include []any
		if n := e.env.Section("include"); n != nil {
			if err := n.Decode(&include); err != nil {
				return fmt.Errorf("include: %w", err)
			}
		}
		for i := range e.step.Scopes {
			include = append(include, path.Join(e.dir, fmt.Sprintf("scopes/%d", i+1)))
		}
		edits = append(edits, spack.Set(include, "include"))
	}
	data, err := e.env.Rewrite(edits...)
	e.manifest = string(data)
	return err
}

func (e *environment) defaultView() string {
	if e.step.Name != "" {
		return path.Join(path.Dir(viewRoot), e.step.Name)
	}
	return viewRoot
}

// views are the roots of the environment's views.
func (e *environment) views() []string {
	v := e.env.View
	var roots []string
	switch {
	case v.Disabled:
	case v.Path != "":
		roots = []string{path.Join(e.dir, v.Path)}
		if path.IsAbs(v.Path) {
			roots = []string{v.Path}
		}
	case len(v.Named) > 0:
		for _, n := range v.Named {
			if path.IsAbs(n.Root) {
				roots = append(roots, n.Root)
			}
		}
	default:
		roots = []string{e.defaultView()}
	}
	return roots
}

// taken are the directories that the final image gets. A view is a link to a
// directory beside it, so what is taken is the directory that holds both.
func (e *environment) taken() []string {
	dirs := []string{e.dir, e.root}
	for _, view := range e.views() {
		dir := path.Dir(view)
		if dir == "/" || dir == "/opt" || dir == "/usr" || dir == "/home" {
			dir = view
		}
		if !slices.ContainsFunc(dirs, func(have string) bool { return dir == have || strings.HasPrefix(dir, have+"/") }) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// spackPath finds Spack: in its own images it is in no PATH.
const spackPath = `export PATH="${SPACK_ROOT:-/opt/spack}/bin:$PATH"`

// install are the commands that install the environment.
func (e *environment) install() []string {
	concretize := "spack -e . concretize"
	if e.step.Concretize != "" {
		concretize += " --" + e.step.Concretize
	}
	install := "spack -e . install"
	if !e.step.KeepGoing {
		install += " --fail-fast"
	}
	if e.step.Jobs != "" && e.step.Jobs != "auto" {
		install += " -j " + e.step.Jobs
	}
	if n := e.step.ConcurrentPackages; n > 0 {
		install += " -p " + strconv.Itoa(n)
	}
	commands := []string{spackPath, "cd " + shellquote.Word(e.dir)}
	for _, name := range slices.Sorted(maps.Keys(e.step.Upstreams)) {
		commands = append(commands, "spack -e . config add "+shellquote.Word("upstreams:"+name+":install_tree:"+e.step.Upstreams[name]))
	}
	for _, repo := range e.repos {
		commands = append(commands, "spack -e . repo add "+shellquote.Word(repo))
	}
	return append(commands, concretize, install)
}

// push are the commands that send packages to the binary cache.
func (e *environment) push() []string {
	b := e.step.Buildcache
	if b == nil || len(b.Push) == 0 {
		return nil
	}
	commands := []string{spackPath, "cd " + shellquote.Word(e.dir)}
	for _, mirror := range b.Push {
		push := "spack -e . buildcache push --update-index"
		if b.Unsigned {
			push += " --unsigned"
		}
		if b.Tag != "" {
			push += " --tag " + shellquote.Word(b.Tag)
		}
		push += " " + shellquote.Word(mirror)
		if !b.Required {
			push = "{ " + push + " || echo " + shellquote.Word("the packages could not be sent to "+mirror) + " >&2; }"
		}
		commands = append(commands, push)
	}
	return commands
}

// collect removes what only building needs.
func (e *environment) collect() []string {
	return []string{spackPath, "cd " + shellquote.Word(e.dir), "spack -e . gc -y"}
}

// strip takes symbols out, of each kind of file those that it can spare:
// static archives keep their index.
func (e *environment) strip() string {
	return `find ` + shellquote.Word(e.root) + ` -type f -print | while read -r f; do case "$(file -b "$f")" in ` +
		`*'ar archive'*) strip -g "$f" ;; ` +
		`*ELF*'shared object'*) strip --strip-unneeded "$f" ;; ` +
		`*ELF*executable*) strip "$f" ;; ` +
		`esac || true; done`
}

// activate are the commands that compute the activation.
func (e *environment) activate() []string {
	return []string{spackPath, "cd " + shellquote.Word(e.dir), "spack env activate --sh -d . > activate.sh"}
}

// entrypointText is the script that activates the environment and runs the
// command.
func entrypointText(dir string) string {
	return "#!/bin/sh\n. " + dir + "/activate.sh\nexec \"$@\"\n"
}

// A secretUse is a secret as a command sees it.
type secretUse struct {
	id, target, variable string
	optional             bool
}

// secrets are those that the environment's mirrors need. Where the recipe does
// not declare them they are called like the variables, in lower case.
func (e *environment) secrets(r *recipe.Recipe) []secretUse {
	var uses []secretUse
	add := func(variable, declared string) {
		if variable == "" || slices.ContainsFunc(uses, func(u secretUse) bool { return u.variable == variable }) {
			return
		}
		use := secretUse{id: declared, variable: variable, optional: true}
		if declared == "" {
			use.id = strings.ToLower(variable)
		} else {
			use.optional = r.Secrets[declared].Optional
		}
		uses = append(uses, use)
	}
	var b recipe.Buildcache
	if e.step.Buildcache != nil {
		b = *e.step.Buildcache
	}
	for _, m := range e.env.Mirrors {
		for _, c := range []spack.Connection{m.Fetch, m.Push} {
			add(c.IDVariable, b.Username)
			add(c.SecretVariable, b.Password)
			add(c.TokenVariable, b.Password)
		}
	}
	return uses
}

// spackSource are the commands that put Spack into an image without one.
func spackSource(s *recipe.SpackSource) []string {
	address, ref := "https://github.com/spack/spack.git", ""
	if s.Version != "" {
		ref = "v" + strings.TrimPrefix(s.Version, "v")
	} else {
		address, ref, _ = strings.Cut(s.Git, "#")
	}
	if ref == "" {
		ref = "HEAD"
	}
	return []string{
		"mkdir -p /opt/spack", "cd /opt/spack", "git init --quiet", "git remote add origin " + shellquote.Word(address),
		"git fetch --quiet --depth=1 origin " + shellquote.Word(ref), "git checkout --quiet --detach FETCH_HEAD",
	}
}

// find returns the environment that an environment step takes over, from the
// stage it names or the one that that starts from.
func (s *source) find(step recipe.Environment) (*environment, error) {
	for st := s.recipe.Stage(step.From); st != nil; st = s.recipe.Stage(st.From) {
		for _, other := range st.Steps {
			if install, ok := other.(recipe.Spack); ok && (step.Name == "" || install.Spack.Name == step.Name) {
				return s.environment(install.Spack)
			}
		}
	}
	return nil, errors.New("environment: the stage " + step.From + " has no such environment; give it a spack step")
}
