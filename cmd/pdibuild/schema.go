package main

import (
	"bytes"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func newSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the recipe's JSON Schema, for editors",
		Long:    "Print the JSON Schema of recipes. Editors use it to complete and check pdibuild.yaml.",
		Example: "  pdibuild schema >pdibuild.schema.json",
		Args:    arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(append(bytes.TrimRight(recipe.Schema(), "\n"), '\n'))
			return err
		},
	}
}
