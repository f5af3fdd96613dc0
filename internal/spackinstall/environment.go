package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// prepare writes the environment and its configuration.
func (j *Job) prepare(ctx context.Context) error {
	if err := j.step.Root().MkdirAll(j.dir); err != nil {
		return err
	}
	for _, files := range [][]placed{j.Inputs.repos, j.Inputs.scopes, j.Inputs.beside, j.Inputs.sources} {
		for i := range files {
			if err := files[i].files.Write(j.step.Root(), path.Join("/", j.dir, files[i].target)); err != nil && !files[i].optional {
				return err
			}
		}
	}
	if err := j.makeHostDirs(); err != nil {
		return err
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
	if err := j.askMirrors(ctx); err != nil {
		return err
	}
	if err := j.saveIndexes(ctx); err != nil {
		return err
	}
	return j.writeConfig(j.indexes)
}

// findTool finds the spack program.
func (j *Job) findTool(ctx context.Context) error {
	if j.Inputs.tool == "" && j.Recipe.Spack != nil {
		dir, err := j.fetchTool(ctx)
		if err != nil {
			return err
		}
		j.Inputs.tool = dir
	}
	if j.Inputs.tool != "" {
		j.tool = path.Join(mountTool, "bin/spack")
		return nil
	}
	dirs := []string{"/opt/spack/bin", "/spack/bin", "/usr/local/spack/bin"}
	if root, ok := j.Getenv("SPACK_ROOT"); ok {
		dirs = append([]string{path.Join(root, "bin")}, dirs...)
	}
	if list, ok := j.Getenv("PATH"); ok {
		dirs = append(strings.Split(list, ":"), dirs...)
	}
	for _, dir := range dirs {
		name := path.Join(dir, "spack")
		if !path.IsAbs(dir) {
			continue
		}
		if info, err := j.step.Root().Stat(name); err == nil && info.Mode().IsRegular() {
			j.tool = name
			return nil
		}
	}
	return &failure.InputError{
		Err:  errors.New("the image has no Spack"),
		Hint: "start the stage from an image with Spack, such as docker.io/spack/ubuntu-noble, or give the step one: 'spack: {path: DIRECTORY}' or 'spack: {version: 1.1.0}'",
	}
}

// askVersion asks Spack for its version, which also shows that it runs.
func (j *Job) askVersion(ctx context.Context) error {
	out, err := j.capture(ctx, "--version")
	if err != nil {
		return fmt.Errorf("start Spack: %w", err)
	}
	j.version = strings.TrimSpace(string(out))
	return nil
}

// atLeastOne reports whether this Spack is 1.MINOR or newer. One whose version
// cannot be read counts as new.
func (j *Job) atLeastOne(minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(j.version, "%d.%d", &a, &b); n != 2 {
		return true
	}
	return a > 1 || a == 1 && b >= minor
}

// writeEnvironment writes spack.yaml, spack.lock and the step's scope.
func (j *Job) writeEnvironment() error {
	if err := j.writeEnvironmentFile(!j.mayIncludeView()); err != nil {
		return err
	}
	if err := j.writeLock(); err != nil {
		return err
	}
	return j.writeScope(path.Join(j.dir, "pdibuild"))
}

// writeEnvironmentFile writes spack.yaml, with the default view if it has none and
// view is set. Mirrors are left out: only this step sees them, like all that an
// image has no use for.
func (j *Job) writeEnvironmentFile(view bool) error {
	edits := []spack.Edit{spack.Remove("container"), spack.Remove("mirrors")}
	if v := j.Inputs.env.View; view && !v.Disabled && v.Path == "" && len(v.Named) == 0 {
		edits = append(edits, spack.Set(j.viewRoot(), "view"))
	}
	var include []any
	if n := j.Inputs.env.Section("include"); n != nil {
		if err := n.Decode(&include); err != nil {
			return &failure.InputError{Subject: "include", Err: err}
		}
	}
	for _, scope := range j.Inputs.scopes {
		include = append(include, path.Join(j.dir, scope.target))
	}
	include = append(include, path.Join(j.dir, "pdibuild"))
	edits = append(edits, spack.Set(include, "include"))
	data, err := j.Inputs.env.Rewrite(edits...)
	if err != nil {
		return err
	}
	return j.step.Root().WriteFile(path.Join(j.dir, spack.EnvironmentFileName), data)
}

// mayIncludeView reports whether spack.yaml names no view, and a scope that it
// includes may name one. Then the default view is in the scope that comes last.
func (j *Job) mayIncludeView() bool {
	return j.atLeastOne(0) && j.Inputs.env.Section("view") == nil && (len(j.Inputs.env.Include) > 0 || len(j.Inputs.scopes) > 0)
}

// writeLock writes the lock file to begin with. One that the image has, from an
// earlier environment, decides nothing.
func (j *Job) writeLock() error {
	name := path.Join(j.dir, spack.LockFileName)
	if lock := j.knownLock(); lock != nil {
		return j.step.Root().WriteFile(name, lock)
	}
	return j.step.Root().Remove(name)
}

func (j *Job) viewRoot() string {
	if j.Recipe.Name != "" {
		return path.Join(path.Dir(viewRoot), j.Recipe.Name)
	}
	return viewRoot
}

// writeScope writes the configuration that belongs to the environment.
func (j *Job) writeScope(dir string) error {
	config := map[string]any{"config": map[string]any{"install_tree": map[string]any{"root": InstallRoot}}}
	repos := map[string]any{}
	var list []string
	for i := range j.Inputs.repos {
		root, err := j.Inputs.repos[i].repoRoot()
		if err != nil {
			return err
		}
		root = path.Join(j.dir, root)
		list = append(list, root)
		repos[fmt.Sprintf("recipe-%d", i+1)] = root
	}
	scope := map[string]any{"config.yaml": config}
	if j.mayIncludeView() {
		scope["view.yaml"] = map[string]any{"view": j.viewRoot()}
	}
	if len(j.Recipe.Upstreams) > 0 {
		upstreams := map[string]any{}
		for name, tree := range j.Recipe.Upstreams {
			upstreams[name] = map[string]any{"install_tree": tree}
		}
		scope["upstreams.yaml"] = map[string]any{"upstreams": upstreams}
	}
	switch {
	case len(list) == 0:
	case j.atLeastOne(0):
		scope["repos.yaml"] = map[string]any{"repos": repos}
	default:
		scope["repos.yaml"] = map[string]any{"repos": list}
	}
	return writeYAMLs(j.step.Root(), dir, scope)
}

// repoRoot returns the directory with repo.yaml: the one named, or the only one
// below it ("spack repo create DIR NAMESPACE" makes it three levels down).
func (p *placed) repoRoot() (string, error) {
	var found []string
	for _, rel := range p.files.Names() {
		if path.Base(rel) == "repo.yaml" {
			found = append(found, path.Join(p.target, path.Dir(rel)))
		}
	}
	if len(found) != 1 {
		return "", &failure.InputError{
			Subject: "repos", Err: fmt.Errorf("%s has %d package repositories", p.files, len(found)),
			Hint: "name the directory with repo.yaml in it; 'spack repo create' makes one",
		}
	}
	return found[0], nil
}

// writeConfig writes the configuration that only this step sees, which has
// precedence over all other. The binary caches are the indexes of the mirrors when
// Spack concretizes, and the local cache when it installs: the contents of this
// host's cache must not decide what is built.
func (j *Job) writeConfig(caches map[string]any) error {
	config := map[string]any{
		"source_cache": mountSources,
		"build_stage":  []string{mountStage},
	}
	mirrors := map[string]any{}
	for _, m := range j.mirrors {
		source := m.Source && !strings.HasPrefix(m.Fetch.URL, "oci")
		if source || mirrorIn(j.Inputs.env.Mirrors, m.Name) == nil { // that of an included scope is in its file
			mirrors[m.Name] = map[string]any{"url": m.Fetch.URL, "source": source, "binary": false}
		}
	}
	maps.Copy(mirrors, caches)
	files := map[string]any{
		"config.yaml":  map[string]any{"config": config},
		"mirrors.yaml": map[string]any{"mirrors": mirrors},
	}
	if len(j.Inputs.moved) > 0 {
		files["develop.yaml"] = map[string]any{"develop": j.movedSources()}
	}
	return j.inHostDir("config", func(root *rootfs.Root) error { return writeYAMLs(root, "/", files) })
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
