package main

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/outfile"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// starter is the recipe that init writes.
//
//go:embed starter.yaml
var starter []byte

const initLong = `Write a commented recipe to start with, pdibuild.yaml, in DIR (by default the
current directory), which is made where it is missing. The recipe builds as it
is, on a Debian or Ubuntu host with mmdebstrap, and needs no registry.`

func newInit(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "init [DIR]",
		Short:   "Write a recipe to start with",
		Long:    initLong,
		Example: "  pdibuild init && pdibuild build --tag hello && pdibuild run hello",
		Args:    arguments(0, 1, "one DIR"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return usagef("choose another directory", "make the directory: %w", err)
		}
		path := filepath.Join(dir, recipe.FileName)
		if err := writeStarter(cmd.Context(), path, force); err != nil {
			return err
		}
		a.note("wrote %s; build it with 'pdibuild build --tag hello%s'", path, inDir(dir))
		return nil
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite a recipe that is there")
	return cmd
}

func inDir(dir string) string {
	if dir == "." {
		return ""
	}
	return " " + dir
}

// writeStarter writes the recipe, and leaves one that is there alone unless
// forced.
func writeStarter(ctx context.Context, path string, force bool) error {
	place, err := outfile.Find(path)
	if err != nil {
		return flagError("write a recipe", err)
	}
	if place.Replaces() && !force {
		return usagef("edit it, or overwrite it with --force", "%s is there already", path)
	}
	return builder.OutputError("write a recipe", path, place.Write(ctx, starter))
}
