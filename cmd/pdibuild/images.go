package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// idWidth is how much of an id the table shows, as podman does.
const idWidth = 12

func newImages(a *app) *cobra.Command {
	var (
		store  storeFlags
		format string
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:     "images",
		Short:   "List the images of the store",
		Long:    "List the images of the store that have a name.",
		Example: "  pdibuild images\n  pdibuild images --format json\n  pdibuild images --storage-root /scratch/$USER/images",
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("format", format, "table", "json"); err != nil {
			return err
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			images, err := e.Images(ctx)
			if err != nil {
				return err
			}
			switch {
			case quiet:
				return printIDs(a.stdout, images)
			case format == "json":
				return printJSON(a.stdout, append([]builder.Image{}, images...)) // [], not null
			}
			return printImages(a.stdout, images)
		})
	}
	cmd.Flags().StringVar(&format, "format", "table", "`form` of the output: table or json")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids alone, in full")
	complete(cmd, "format", "table", "json")
	store.addStore(cmd)
	return cmd
}

func printIDs(w io.Writer, images []builder.Image) error {
	for _, img := range images {
		if _, err := fmt.Fprintln(w, img.ID); err != nil {
			return err
		}
	}
	return nil
}

// printImages prints one line per name.
func printImages(w io.Writer, images []builder.Image) error {
	type line struct{ name, id, size string }
	var lines []line
	for _, img := range images {
		for _, name := range img.Names {
			lines = append(lines, line{name, img.ID[:min(len(img.ID), idWidth)], quantity.Format(img.Size)})
		}
	}
	slices.SortFunc(lines, func(x, y line) int { return cmp.Compare(x.name, y.name) })
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "NAME\tIMAGE ID\tSIZE")
	for _, l := range lines {
		fmt.Fprintf(tab, "%s\t%s\t%s\n", l.name, l.id, l.size)
	}
	return tab.Flush()
}
