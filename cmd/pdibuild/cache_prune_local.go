package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

const cachePruneLong = `Remove what is kept for later builds, what was unused for longest first. What an
image with a name, a container or a running build needs stays, and so does
whatever pdibuild has not made.

Without flags, what no build can use any more goes: records without layers, layers
without records, what killed builds have left, logs of more than 30 days; and what
is beyond the limits of the configuration file (docs/cache.md).`

const cachePruneExample = `  pdibuild cache prune --keep 20GB            # the least recently used go
  pdibuild cache prune --older 30d --dry-run  # say what would go
  pdibuild cache prune --all                  # all that nothing needs`

func newCachePrune(a *app) *cobra.Command {
	var (
		store             storeFlags
		keep, age, format string
		opt               builder.PruneOptions
	)
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove what is kept for later builds", Long: cachePruneLong, Example: cachePruneExample,
		Args: arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("format", format, "table", "json"); err != nil {
			return err
		}
		c, err := a.config()
		if err != nil {
			return err
		}
		if keep == "" && age == "" && !opt.All {
			opt.CacheLimits = c.limits
		}
		if keep != "" {
			if opt.Keep, err = quantity.Size(keep); err != nil {
				return usagef(seeHelp(cmd), "--keep: %w", err)
			}
			if opt.Keep == 0 {
				opt.Keep = 1 // nothing at all may stay
			}
		}
		if age != "" {
			if opt.Older, err = quantity.Age(age); err != nil {
				return usagef(seeHelp(cmd), "--older: %w", err)
			}
			if opt.Older == 0 {
				opt.Older = 1
			}
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			res, err := e.PruneCache(ctx, opt)
			if err != nil {
				return err
			}
			return a.printPruned(res, opt, format)
		})
	}
	f := cmd.Flags()
	f.StringVar(&keep, "keep", "", "`size` that may stay, such as 20GB")
	f.StringVar(&age, "older", "", "remove what was unused for this `time`, such as 30d")
	f.BoolVar(&opt.All, "all", false, "take images without a name and containers of failed steps for things that may go; without --keep and --older, remove all that nothing needs")
	f.BoolVarP(&opt.DryRun, "dry-run", "n", false, "only say what would go")
	f.StringVar(&format, "format", "table", "`form` of the output: table or json")
	complete(cmd, "format", "table", "json")
	store.addStore(cmd)
	return cmd
}

func (a *app) printPruned(res *builder.PruneResult, opt builder.PruneOptions, format string) error {
	if format == "json" {
		return printJSON(a.stdout, res)
	}
	for i := range res.Removed {
		e := &res.Removed[i]
		if _, err := fmt.Fprintf(a.stdout, "%s %s %s %s\n", e.Kind, shortID(e), quantity.Format(e.Size), termtext.Line(termtext.FirstLine(e.Text))); err != nil {
			return err
		}
	}
	done := "removed"
	if opt.DryRun {
		done = "would be removed"
	}
	a.note("%d entries, %s, %s; %s are left, of which something keeps %s", len(res.Removed), quantity.Format(res.Freed), done, quantity.Format(res.Left), quantity.Format(res.Kept))
	if opt.Keep > 0 && res.Left > opt.Keep {
		a.note("that is more than may stay: 'pdibuild cache ls' says what keeps it; 'pdibuild rm' removes images, --all those without a name")
	}
	return nil
}
