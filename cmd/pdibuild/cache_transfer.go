package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// stepCacheVerb is 'cache export' and 'cache import'.
type stepCacheVerb struct {
	app    *app
	plan   planFlags
	store  storeFlags
	caches stepCacheFlags
}

func (v *stepCacheVerb) command(cmd *cobra.Command, work func(context.Context, engine, *builder.Plan, builder.StepCacheOptions) error) *cobra.Command {
	cmd.Args = arguments(0, 1, "one CONTEXT")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := v.caches.check(); err != nil {
			return err
		}
		if len(v.caches.sources)+len(v.caches.destinations) == 0 {
			return usagef(stepCacheHint, "%s needs to know where: --to or --from", cmd.CommandPath())
		}
		if err := v.plan.check(); err != nil {
			return err
		}
		if err := v.plan.setContext(args); err != nil {
			return err
		}
		return v.app.inStore(cmd, v.store.session(v.app), func(ctx context.Context, e engine) error {
			plan, err := makePlan(ctx, v.app, e, &v.plan)
			if err != nil {
				return err
			}
			p := v.app.newPrinter(progressFlags{mode: "plain"})
			defer p.Close()
			return work(ctx, e, plan, builder.StepCacheOptions{Events: p.Event})
		})
	}
	v.plan.add(cmd)
	v.store.addStore(cmd)
	v.store.addRegistries(cmd)
	return cmd
}

func newCacheExport(a *app) *cobra.Command {
	v := &stepCacheVerb{app: a}
	cmd := &cobra.Command{
		Use:   "export --to CACHE [CONTEXT]",
		Short: "Send finished steps to a registry or a directory",
		Long: `Send those steps of a recipe to a registry or a directory whose results are in the
store. 'pdibuild build --cache-to' does so at the end of a build. What is there is
not sent again.`,
		Example: "  pdibuild cache export --to registry.example.org/group/cache\n  pdibuild cache export --to type=local,dest=steps,mode=max",
	}
	v.caches.addTo(cmd, "to")
	return v.command(cmd, func(ctx context.Context, e engine, plan *builder.Plan, opt builder.StepCacheOptions) error {
		for _, to := range v.caches.destinations {
			sent, had, err := e.ExportSteps(ctx, plan, to, opt)
			if err != nil {
				return asUsage(err)
			}
			a.note("%s: %d steps sent, %d were there", to, sent, had)
		}
		return nil
	})
}

func newCacheImport(a *app) *cobra.Command {
	v := &stepCacheVerb{app: a}
	cmd := &cobra.Command{
		Use:   "import --from CACHE [CONTEXT]",
		Short: "Fetch finished steps from a registry or a directory",
		Long: `Fetch those steps of a recipe from a registry or a directory that are not in the
store. 'pdibuild build --cache-from' fetches only what a build needs.

Whoever may write to the cache decides what is taken for the result of a step.`,
		Example: "  pdibuild cache import --from registry.example.org/group/cache\n  pdibuild cache import --from type=local,src=steps",
	}
	v.caches.addFrom(cmd, "from")
	return v.command(cmd, func(ctx context.Context, e engine, plan *builder.Plan, opt builder.StepCacheOptions) error {
		for _, from := range v.caches.sources {
			have, of, err := e.ImportSteps(ctx, plan, from, opt)
			if err != nil {
				return asUsage(err)
			}
			a.note("%s: %d of %d steps are here now", from, have, of)
		}
		return nil
	})
}
