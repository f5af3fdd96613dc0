package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// stepCacheVerb is 'cache export' and 'cache import'.
type stepCacheVerb struct {
	app    *app
	plan   planFlags
	store  storeFlags
	caches stepCacheFlags
	// each moves steps to or from one cache and says how that went.
	each func(context.Context, engine, *builder.Plan, builder.StepCache, builder.StepCacheOptions) (said string, err error)
}

func (v *stepCacheVerb) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = arguments(0, 1, "one CONTEXT")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := v.caches.check(); err != nil {
			return err
		}
		caches := slices.Concat(v.caches.sources, v.caches.destinations)
		if len(caches) == 0 {
			return usagef(stepCacheHint, "%s needs to know where: --to or --from", cmd.CommandPath())
		}
		if err := v.plan.check(); err != nil {
			return err
		}
		if err := v.plan.setContext(args); err != nil {
			return err
		}
		return v.app.inStore(cmd, v.store.session(v.app), func(ctx context.Context, e engine) error {
			return v.move(ctx, e, caches)
		})
	}
	v.plan.add(cmd)
	v.store.addStore(cmd)
	v.store.addRegistries(cmd)
	return cmd
}

func (v *stepCacheVerb) move(ctx context.Context, e engine, caches []builder.StepCache) error {
	plan, err := makePlan(ctx, v.app, e, &v.plan)
	if err != nil {
		return err
	}
	p := v.app.newPrinter(progressFlags{mode: "plain"})
	defer p.Close()
	for _, c := range caches {
		said, err := v.each(ctx, e, plan, c, builder.StepCacheOptions{Events: p.Event})
		if err != nil {
			return asUsage(err)
		}
		v.app.note("%s: %s", c, said)
	}
	return nil
}

func newCacheExport(a *app) *cobra.Command {
	v := &stepCacheVerb{app: a}
	v.each = func(ctx context.Context, e engine, plan *builder.Plan, to builder.StepCache, opt builder.StepCacheOptions) (string, error) {
		sent, had, err := e.ExportSteps(ctx, plan, to, opt)
		return fmt.Sprintf("%s sent, %d were there", quantity.Count(sent, "step"), had), err
	}
	cmd := v.command(&cobra.Command{
		Use:   "export --to CACHE [CONTEXT]",
		Short: "Send finished steps to a registry or a directory",
		Long: `Send those steps of a recipe to a registry or a directory whose results are in the
store. 'pdibuild build --cache-to' does so at the end of a build. What is there is
not sent again.`,
		Example: "  pdibuild cache export --to registry.example.org/group/cache\n  pdibuild cache export --to type=local,dest=steps,mode=max",
	})
	v.caches.addTo(cmd, "to")
	return cmd
}

func newCacheImport(a *app) *cobra.Command {
	v := &stepCacheVerb{app: a}
	v.each = func(ctx context.Context, e engine, plan *builder.Plan, from builder.StepCache, opt builder.StepCacheOptions) (string, error) {
		have, of, err := e.ImportSteps(ctx, plan, from, opt)
		return fmt.Sprintf("%d of %s are here now", have, quantity.Count(of, "step")), err
	}
	cmd := v.command(&cobra.Command{
		Use:   "import --from CACHE [CONTEXT]",
		Short: "Fetch finished steps from a registry or a directory",
		Long: `Fetch those steps of a recipe from a registry or a directory that are not in the
store. 'pdibuild build --cache-from' fetches only what a build needs.

Whoever may write to the cache decides what is taken for the result of a step.`,
		Example: "  pdibuild cache import --from registry.example.org/group/cache\n  pdibuild cache import --from type=local,src=steps",
	})
	v.caches.addFrom(cmd, "from")
	return cmd
}
