package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

const validateLong = `Check a recipe without building anything, and report everything that is wrong
with it at once. --format canonical prints the recipe in its canonical form.`

const validateExample = `  pdibuild validate
  pdibuild validate examples/hello-mpi
  pdibuild validate -f other.yaml --format canonical`

func newValidate(a *app) *cobra.Command {
	var flags planFlags
	var format string
	cmd := &cobra.Command{
		Use:     "validate [CONTEXT]",
		Aliases: []string{"check"},
		Short:   "Check a recipe",
		Long:    validateLong,
		Example: validateExample,
		Args:    arguments(0, 1, "one CONTEXT"),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := oneOf("format", format, "text", "canonical"); err != nil {
			return err
		}
		if err := flags.setContext(args); err != nil {
			return err
		}
		r, err := flags.read(a)
		if err != nil {
			return err
		}
		if format == "canonical" {
			return printCanonical(a, r)
		}
		_, err = fmt.Fprintf(a.stdout, "%s: valid (%s, %s)\n", flags.recipeName(), quantity.Count(len(r.Stages), "stage"), quantity.Count(stepCount(r), "step"))
		return err
	}
	cmd.Flags().StringVarP(&flags.file, "file", "f", "", "recipe `file`, or - for standard input (default: pdibuild.yaml in CONTEXT)")
	cmd.Flags().StringVar(&format, "format", "text", "`form` of the output: text or canonical")
	complete(cmd, "format", "text", "canonical")
	return cmd
}

func stepCount(r *recipe.Recipe) int {
	n := 0
	for i := range r.Stages {
		n += len(r.Stages[i].Steps)
	}
	return n
}

func printCanonical(a *app, r *recipe.Recipe) error {
	data, err := recipe.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the canonical form: %w", err)
	}
	_, err = a.stdout.Write(data)
	return err
}
