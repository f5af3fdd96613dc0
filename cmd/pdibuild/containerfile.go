package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/containerfile"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

const containerfileLong = `Print a recipe as a Containerfile, which podman, buildah and docker build, or as
an Apptainer definition file. Comments that begin with NOTE say what such a file
cannot express.

A directory that has only a spack.yaml gives what 'spack containerize' prints
for it, but for the differences that docs/spack-container.md lists; its
container: section says which kind of file, unless --format does.`

const containerfileExample = `  pdibuild containerfile >Containerfile
  pdibuild containerfile examples/hello-mpi | podman build -f - examples/hello-mpi
  pdibuild containerfile --format singularity >image.def`

func newContainerfile(a *app) *cobra.Command {
	var flags planFlags
	var format string
	cmd := &cobra.Command{
		Use:     "containerfile [CONTEXT|RECIPE]",
		Aliases: []string{"containerize", "dockerfile"},
		Short:   "Print a recipe as a Containerfile",
		Long:    containerfileLong,
		Example: containerfileExample,
		Args:    arguments(0, 1, "one CONTEXT or RECIPE"),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if format != "" && format != "apptainer" {
			if err := oneOf("format", format, formatNames()...); err != nil {
				return err
			}
		}
		args, err := flags.recipeArgument(args)
		if err != nil {
			return err
		}
		if err := flags.setContext(args); err != nil {
			return err
		}
		return printContainerfile(a, &flags, format)
	}
	f := cmd.Flags()
	f.StringVarP(&flags.file, "file", "f", "", "recipe `file`, or - for standard input (default: pdibuild.yaml in CONTEXT)")
	f.StringArrayVar(&flags.buildArgs, "build-arg", nil, "`NAME=VALUE` of an argument of the recipe; NAME alone takes the value from the environment (repeatable)")
	f.StringVar(&flags.target, "target", "", "`stage` to build (default: the last)")
	f.StringVar(&format, "format", "", "`kind` of file: docker or singularity (also called apptainer)")
	complete(cmd, "format", formatNames()...)
	return cmd
}

func formatNames() []string {
	var names []string
	for _, f := range containerfile.Formats() {
		names = append(names, string(f))
	}
	return names
}

// recipeArgument takes a recipe that is named instead of a directory: its
// directory is the context.
func (p *planFlags) recipeArgument(args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	if info, err := os.Stat(args[0]); err != nil || info.IsDir() {
		//nolint:nilerr // setContext looks again and explains it
		return args, nil
	}
	if p.file != "" {
		return nil, usagef("name one of them", "both --file %s and %s are recipes", p.file, args[0])
	}
	if filepath.Base(args[0]) != spack.EnvironmentFileName {
		p.file = args[0]
	}
	return []string{filepath.Dir(args[0])}, nil
}

func printContainerfile(a *app, flags *planFlags, format string) error {
	if err := flags.check(); err != nil {
		return err
	}
	r, err := flags.read(a)
	if err != nil {
		return err
	}
	if err := flags.checkTarget(r); err != nil {
		return err
	}
	opt := containerfile.Options{Format: containerfile.Format(format), Target: flags.target}
	if opt.Args, err = flags.args(a, r); err != nil {
		return err
	}
	switch format {
	case "apptainer":
		opt.Format = containerfile.Singularity
	case "":
		opt.Format = flags.environmentFormat()
	}
	data, err := containerfile.Write(r, os.DirFS(flags.contextDir), opt)
	if err != nil {
		return fmt.Errorf("write %s as a file for other builders: %w", flags.recipeName(), err)
	}
	_, err = a.stdout.Write(data)
	return err
}

// environmentFormat is the format that a container: section asks for.
func (p *planFlags) environmentFormat() containerfile.Format {
	name := recipe.Find(p.contextDir)
	if p.file != "" || filepath.Base(name) != spack.EnvironmentFileName {
		return ""
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	env, err := spack.ParseEnvironment(name, data)
	if err != nil || env.Container == nil || !slices.Contains(formatNames(), env.Container.Format) {
		return ""
	}
	return containerfile.Format(env.Container.Format)
}
