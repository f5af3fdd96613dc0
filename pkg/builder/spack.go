package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Where a spack step puts what it makes, in the image. They are the places
// that `spack containerize` uses, because scripts rely on them.
const (
	spackEnvironmentDir = "/opt/spack-environment"
	spackInstallRoot    = "/opt/software"
	spackViewRoot       = "/opt/views/view"
)

// Where a spack step sees what the host lends it. None of it stays.
const (
	spackLent       = "/run/pdibuild-spack"
	spackLentTool   = spackLent + "/root"
	spackLentConfig = spackLent + "/config"
	spackLentCache  = spackLent + "/buildcache"
	spackLentSource = spackLent + "/sources"
	spackLentStage  = spackLent + "/stage"
	spackLentOut    = spackLent + "/out"
	spackLentIndex  = spackLent + "/indexes"
)

// A spackJob is a spack step being done.
type spackJob struct {
	*stepRun
	step recipe.SpackInstall
	in   *spackInputs
	s    state
	wk   *work
	// dir is the environment's directory in the image.
	dir string
	// lent is the directory of the host with what only this step sees.
	lent string
	// tool is the spack program, as a path in the image; version is what it
	// says of itself.
	tool, version string
	lock          *spack.Lock
	lockData      []byte
	known         *spackmirror.Mirrors
	// indexes are mirrors with nothing but the index of one of the
	// environment's.
	indexes map[string]any
	// have are the hashes of the packages in the local binary cache,
	// thereAlready those that need not be installed, with their prefixes.
	have         map[string]bool
	thereAlready map[string]string
	// packages follows the installation.
	packages *packageWatch
	// request is that of the last command.
	request *stepRequest
}

// performSpack installs a Spack environment: concretize, take from the binary
// cache what it has, install, and note what has been installed.
func (x *stepRun) performSpack(ctx context.Context, s state, step recipe.SpackInstall) (rec cache.Record, err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, false)) }()
	j := &spackJob{stepRun: x, step: step, in: x.planned.spack, s: s, wk: wk, dir: spackEnvironmentDir}
	if step.Name != "" {
		j.dir += "-" + step.Name
	}
	if j.lent, err = wk.lend(); err != nil {
		return cache.Record{}, err
	}
	written, err := x.run.b.spackStore().BeginWrite(ctx)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { written(err == nil) }()
	for _, do := range []func(context.Context) error{j.prepare, j.concretize, j.fetch, j.install} {
		if err := do(ctx); err != nil {
			return cache.Record{}, x.keepFailed(ctx, failure{wk, j.request, s, err})
		}
	}
	in, err := j.installation(ctx)
	if err != nil {
		return cache.Record{}, err
	}
	if err := j.strip(ctx, in); err != nil {
		return cache.Record{}, err
	}
	return j.keep(ctx, in)
}

// keep makes the layer. It has the script that activates the environment, for
// the stage's run steps.
func (j *spackJob) keep(ctx context.Context, in *installation) (cache.Record, error) {
	if err := j.wk.root.WriteFile(path.Join(j.dir, activateScript), []byte(activationScript(in.Activation))); err != nil {
		return cache.Record{}, err
	}
	opt, err := j.diffOptions(j.wk, &j.request.Request)
	if err != nil {
		return cache.Record{}, err
	}
	// Compiled files have the times at which they were, those from a binary
	// cache have none: the same packages have to be the same files.
	opt.OneTime = true
	j.wk.closed = j.run.isolation.PIDNamespace
	rec, err := j.keepDiff(ctx, j.s.layer, j.wk, opt)
	if err != nil {
		return cache.Record{}, err
	}
	rec.Data, err = json.Marshal(in)
	return rec, err
}

// prepare writes the environment and its configuration.
func (j *spackJob) prepare(ctx context.Context) error {
	if err := j.wk.root.MkdirAll(j.dir); err != nil {
		return err
	}
	for _, files := range [][]spackFiles{j.in.repos, j.in.scopes, j.in.beside} {
		for i := range files {
			if err := files[i].write(j.run.plan.Context, j.wk.root, j.dir); err != nil {
				return err
			}
		}
	}
	for _, sub := range []string{"config", "stage", "out", "indexes"} {
		if err := os.Mkdir(filepath.Join(j.lent, sub), 0o755); err != nil {
			return err
		}
	}
	if err := j.findTool(ctx); err != nil {
		return err
	}
	if err := j.askVersion(ctx); err != nil {
		return err
	}
	if err := j.writeEnvironment(); err != nil {
		return err
	}
	if err := j.lendIndexes(ctx); err != nil {
		return err
	}
	return j.writeConfig(j.indexes)
}

// findTool finds the spack program.
func (j *spackJob) findTool(ctx context.Context) error {
	if j.in.tool == "" && j.step.Spack != nil {
		dir, err := j.fetchTool(ctx)
		if err != nil {
			return err
		}
		j.in.tool = dir
	}
	if j.in.tool != "" {
		j.tool = path.Join(spackLentTool, "bin/spack")
		return nil
	}
	dirs := []string{"/opt/spack/bin", "/spack/bin", "/usr/local/spack/bin"}
	if root, ok := j.s.getenv("SPACK_ROOT"); ok {
		dirs = append([]string{path.Join(root, "bin")}, dirs...)
	}
	if list, ok := j.s.getenv("PATH"); ok {
		dirs = append(strings.Split(list, ":"), dirs...)
	}
	for _, dir := range dirs {
		name := path.Join(dir, "spack")
		if !path.IsAbs(dir) {
			continue
		}
		if info, err := j.wk.root.Stat(name); err == nil && info.Mode().IsRegular() {
			j.tool = name
			return nil
		}
	}
	return &InputError{
		Err:  errors.New("the image has no Spack"),
		Hint: "start the stage from an image with Spack, such as docker.io/spack/ubuntu-noble, or give the step one: 'spack: {path: DIRECTORY}' or 'spack: {version: 1.1.0}'",
	}
}

// askVersion asks Spack for its version, which also shows that it runs.
func (j *spackJob) askVersion(ctx context.Context) error {
	out, err := j.capture(ctx, "--version")
	if err != nil {
		return fmt.Errorf("start Spack: %w", err)
	}
	j.version = strings.TrimSpace(string(out))
	return nil
}

// atLeastOne says that this Spack is 1.0 or newer.
func (j *spackJob) atLeastOne() bool { return !strings.HasPrefix(j.version, "0.") }

// writeEnvironment writes spack.yaml and spack.lock. What says where packages
// come from is left out: it is lent to this step, with the rest of what an
// image has no use for.
func (j *spackJob) writeEnvironment() error {
	edits := []spack.Edit{spack.Remove("container"), spack.Remove("mirrors")}
	if v := j.in.env.View; !v.Disabled && v.Path == "" && len(v.Named) == 0 {
		edits = append(edits, spack.Set(j.viewRoot(), "view"))
	}
	var include []any
	if n := j.in.env.Section("include"); n != nil {
		if err := n.Decode(&include); err != nil {
			return &InputError{Subject: "include", Err: err}
		}
	}
	for _, scope := range j.in.scopes {
		include = append(include, path.Join(j.dir, scope.target))
	}
	include = append(include, path.Join(j.dir, "pdibuild"))
	edits = append(edits, spack.Set(include, "include"))
	data, err := j.in.env.Rewrite(edits...)
	if err != nil {
		return err
	}
	if err := j.wk.root.WriteFile(path.Join(j.dir, spack.EnvironmentFileName), data); err != nil {
		return err
	}
	lock := j.knownLock()
	if lock != nil {
		if err := j.wk.root.WriteFile(path.Join(j.dir, spack.LockFileName), lock); err != nil {
			return err
		}
	}
	return j.writeScope(path.Join(j.dir, "pdibuild"))
}

func (j *spackJob) viewRoot() string {
	if j.step.Name != "" {
		return path.Join(path.Dir(spackViewRoot), j.step.Name)
	}
	return spackViewRoot
}

// writeScope writes the configuration that belongs to the environment.
func (j *spackJob) writeScope(dir string) error {
	config := map[string]any{"config": map[string]any{"install_tree": map[string]any{"root": spackInstallRoot}}}
	repos := map[string]any{}
	var list []string
	for i := range j.in.repos {
		root, err := j.in.repos[i].repoRoot()
		if err != nil {
			return err
		}
		root = path.Join(j.dir, root)
		list = append(list, root)
		repos[fmt.Sprintf("recipe-%d", i+1)] = root
	}
	scope := map[string]any{"config.yaml": config}
	if len(j.step.Upstreams) > 0 {
		upstreams := map[string]any{}
		for name, tree := range j.step.Upstreams {
			upstreams[name] = map[string]any{"install_tree": tree}
		}
		scope["upstreams.yaml"] = map[string]any{"upstreams": upstreams}
	}
	switch {
	case len(list) == 0:
	case j.atLeastOne():
		scope["repos.yaml"] = map[string]any{"repos": repos}
	default:
		scope["repos.yaml"] = map[string]any{"repos": list}
	}
	return writeYAMLs(j.wk.root, dir, scope)
}

// repoRoot is the directory with repo.yaml: the one named, or the only one
// below it ("spack repo create DIR NAMESPACE" makes it three levels down).
func (f *spackFiles) repoRoot() (string, error) {
	var found []string
	for i := range f.source.Files {
		if rel := f.source.Files[i].Rel; path.Base(rel) == "repo.yaml" {
			found = append(found, path.Join(f.target, path.Dir(rel)))
		}
	}
	if len(found) != 1 {
		return "", &InputError{
			Subject: "repos", Err: fmt.Errorf("%s has %d package repositories", f.source.String(), len(found)),
			Hint: "name the directory with repo.yaml in it; 'spack repo create' makes one",
		}
	}
	return found[0], nil
}

// writeConfig writes the configuration that only this step sees. It goes
// before all other. The binary caches are the indexes of the mirrors when Spack
// concretizes, and the local cache when it installs: what this host happens to
// have must not decide what is built.
func (j *spackJob) writeConfig(caches map[string]any) error {
	config := map[string]any{
		"source_cache": spackLentSource,
		"build_stage":  []string{spackLentStage},
	}
	mirrors := map[string]any{}
	for _, m := range j.in.env.Mirrors {
		if m.Source && !strings.HasPrefix(m.Fetch.URL, "oci") {
			mirrors[m.Name] = map[string]any{"url": m.Fetch.URL, "source": true, "binary": false}
		}
	}
	maps.Copy(mirrors, caches)
	lent, err := rootfs.Open(j.lent)
	if err != nil {
		return err
	}
	defer lent.Close()
	return writeYAMLs(lent, "config", map[string]any{
		"config.yaml":  map[string]any{"config": config},
		"mirrors.yaml": map[string]any{"mirrors": mirrors},
	})
}

func writeYAMLs(root *rootfs.Root, dir string, files map[string]any) error {
	for name, content := range files {
		data, err := yaml.Marshal(content)
		if err != nil {
			return err
		}
		if err := root.WriteFile(path.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// command is a call of spack in the environment.
func (j *spackJob) command(args ...string) command {
	cmd := command{
		argv: append([]string{j.tool, "--color=never", "-C", spackLentConfig}, args...), user: "0", workdir: "/", noNet: j.step.Network == "none",
		env: map[string]string{"TERM": "dumb", "SPACK_COLOR": "never"},
	}
	cmd.add = []worker.Mount{
		{Type: "bind", Source: filepath.Join(j.lent, "config"), Target: spackLentConfig},
		{Type: "bind", Source: filepath.Join(j.lent, "indexes"), Target: spackLentIndex},
		{Type: "bind", Source: filepath.Join(j.lent, "stage"), Target: spackLentStage, Write: true},
		{Type: "bind", Source: filepath.Join(j.lent, "out"), Target: spackLentOut, Write: true},
	}
	for _, c := range []struct{ dir, target string }{{"sources", spackLentSource}, {"buildcache", spackLentCache}} {
		cmd.add = append(cmd.add, worker.Mount{Type: "bind", Source: j.run.b.spackCache(c.dir), Target: c.target, Write: true})
	}
	if j.in.tool != "" {
		cmd.add = append(cmd.add, worker.Mount{Type: "bind", Source: j.in.tool, Target: spackLentTool})
		cmd.env["SPACK_ROOT"] = spackLentTool
	}
	return cmd
}

// exec runs a command in the working layer.
func (j *spackJob) exec(ctx context.Context, cmd command) error {
	request, err := j.runCommand(ctx, j.s, j.wk, cmd)
	j.request = request
	return err
}

// capture runs a command and returns what it prints to standard output.
func (j *spackJob) capture(ctx context.Context, args ...string) ([]byte, error) {
	cmd := j.command(args...)
	cmd.argv = append([]string{"/bin/sh", "-c", `exec "$@" > ` + path.Join(spackLentOut, "captured"), "sh"}, cmd.argv...)
	if err := j.exec(ctx, cmd); err != nil {
		return nil, err
	}
	var out []byte
	err := j.inLent("out", func(root *rootfs.Root) (err error) {
		out, err = root.ReadFile("captured")
		return err
	})
	return out, err
}

// inLent gives access to a directory that commands may write to: what they leave
// there may be links to anything.
func (j *spackJob) inLent(dir string, do func(*rootfs.Root) error) error {
	root, err := rootfs.Open(filepath.Join(j.lent, dir))
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

func (j *spackJob) warn(text string) {
	e := j.event(progress.Warning)
	e.Text = text
	j.run.emit(e)
}

func (j *spackJob) say(format string, args ...any) {
	e := j.event(progress.Info)
	e.Text = fmt.Sprintf(format, args...)
	j.run.emit(e)
}
