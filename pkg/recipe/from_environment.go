package recipe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/internal/yamlfile"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// fromEnvironment makes the recipe of a directory that has only a spack.yaml:
// what `spack containerize` would make of its container: section; see
// docs/spack-container.md.
func fromEnvironment(file string) (*Recipe, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	env, err := spack.ParseEnvironment(file, data)
	if err != nil {
		return nil, environmentErrors(file, err)
	}
	c := env.Container
	if c == nil {
		c = spack.DefaultContainer()
	}
	r, err := containerRecipe(env, c)
	if err != nil {
		return nil, environmentErrors(file, err)
	}
	if file, err = filepath.Abs(file); err != nil {
		return nil, fmt.Errorf("name the image: %w", err)
	}
	r.Name = "localhost/" + nameFor(filepath.Base(filepath.Dir(file)))
	return r, r.Validate()
}

// nameFor makes the name of a directory one that an image can have.
func nameFor(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(dir))
	if name = strings.Trim(name, "-"); name == "" {
		return "environment"
	}
	return name
}

// environmentErrors are errors of pkg/spack as ours.
func environmentErrors(file string, err error) error {
	var theirs spack.Errors
	if !errors.As(err, &theirs) {
		return Errors{{File: file, Message: "container: " + err.Error()}}
	}
	var ours Errors
	for _, e := range theirs {
		ours = append(ours, &Error{
			File: e.File, Line: e.Line, Column: e.Column, Path: e.Path, Message: e.Message, Suggestion: e.Suggestion, Source: e.Source,
		})
	}
	return ours
}

// containerRecipe is the recipe that an environment's container: section describes.
func containerRecipe(e *spack.Environment, c *spack.Container) (*Recipe, error) {
	if err := unsupportedKeys(c); err != nil {
		return nil, err
	}
	base, err := c.Base()
	if err != nil {
		return nil, err
	}
	builder := Stage{Name: "builder", From: base.Build}
	install := SpackInstall{Environment: spack.EnvironmentFileName, Strip: c.Strip}
	if base.Build == "" {
		builder.From = base.Bootstrap
		install.Spack = spackSource(c.Images.Spack)
		if err := addTools(&builder, base.PackageManager); err != nil {
			return nil, err
		}
	}
	final := Stage{Name: "final", From: base.Final, Entrypoint: Script("activate"), Cmd: Exec("/bin/bash")}
	for stage, names := range map[*Stage][]string{&builder: c.OSPackages.Build, &final: c.OSPackages.Final} {
		if err := addPackages(stage, c, base.PackageManager, names); err != nil {
			return nil, err
		}
	}
	builder.Steps = append(builder.Steps, Spack{Spack: install})
	final.Steps = append(final.Steps, Environment{From: builder.Name})
	if command := linkView(e); command != "" {
		final.Steps = append(final.Steps, Run{Command: Script(command)})
	}
	final.applyContainer(c)
	return &Recipe{Version: 1, Stages: []Stage{builder, final}}, nil
}

// linkView is the command that makes /opt/view, where Spack's images have the view
// as well; "" if there is none to link.
func linkView(e *spack.Environment) string {
	root := e.View.Path
	switch {
	case e.View.Disabled:
		return ""
	case len(e.View.Named) > 0:
		i := slices.IndexFunc(e.View.Named, func(v spack.NamedView) bool { return v.Name == "default" })
		if i < 0 {
			return ""
		}
		root = e.View.Named[i].Root
	case root == "" && len(e.Include) > 0: // one of these may name another one
		return "[ ! -e /opt/views/view ] || ln -s /opt/views/view /opt/view"
	case root == "":
		root = "/opt/views/view"
	}
	if !path.IsAbs(root) {
		root = path.Join("/opt/spack-environment", root)
	}
	if strings.ContainsAny(root, "~$") || root == "/opt/view" {
		return "" // Spack knows where it is, or it is there
	}
	return "ln -s " + shellquote.Word(root) + " /opt/view"
}

// unsupportedKeys says what of a section cannot be done.
func unsupportedKeys(c *spack.Container) error {
	const instead = "write a pdibuild.yaml with a spack and an environment step instead"
	switch {
	case c.Template != "":
		return errors.New("template: pdibuild prints no Containerfile from a template; " + instead)
	case c.ExtraInstructions != (spack.ExtraInstructions{}):
		return errors.New("extra_instructions: these are lines of a Containerfile; " + instead)
	case c.Singularity.Startscript != "":
		return errors.New("singularity: startscript: an image has one command, the runscript; " + instead)
	}
	return nil
}

// spackSource is the Spack to bring into an image without one.
func spackSource(s spack.Source) *SpackSource {
	address, ref := s.URL, s.Ref
	if address == "" {
		address, ref = "https://github.com/spack/spack.git", s.Version
	}
	return &SpackSource{Git: address + "#" + ref}
}

// addTools installs what Spack needs, in an image that was not made for it.
func addTools(st *Stage, manager string) error {
	commands, err := spack.CommandsFor(manager)
	if err != nil {
		return err
	}
	script := strings.Join([]string{commands.Update, commands.Install + " " + strings.Join(spack.BuildTools(manager), " "), commands.Clean}, " && ")
	if manager == "apt" {
		script = "export DEBIAN_FRONTEND=noninteractive && " + script
	}
	st.Steps = append(st.Steps, Run{Command: Script(script)})
	return nil
}

// addPackages installs packages of the distribution, as Spack's template does.
func addPackages(st *Stage, c *spack.Container, manager string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	commands, err := spack.CommandsFor(manager)
	if err != nil {
		return err
	}
	script := commands.Install + " " + strings.Join(names, " ") + " && " + commands.Clean
	if c.OSPackages.Update {
		script = commands.Update + " && " + script
	}
	st.Steps = append(st.Steps, Run{Command: Script(script)})
	return nil
}

// applyContainer adds what a section says about the final image.
func (st *Stage) applyContainer(c *spack.Container) {
	st.Labels = map[string]string{}
	for _, l := range c.Labels {
		st.Labels[l.Name] = l.Value
	}
	s := c.Singularity
	if s.Help != "" {
		st.Labels["org.opencontainers.image.description"] = strings.TrimSpace(s.Help)
	}
	if s.Runscript != "" {
		// The arguments of Apptainer's run become those of the script.
		st.Cmd = Exec("/bin/sh", "-c", s.Runscript, "runscript")
	}
	if s.Test != "" {
		st.Steps = append(st.Steps, Check{Command: Script(s.Test)})
	}
}
