package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

const planLong = `Show what 'pdibuild build' with the same flags would do: every stage and step,
whether its result is known already, and the key that the result is kept under.
Nothing is run and nothing is fetched: the steps after a base image that is not
here yet have no key. For a Spack environment whose packages are known, by its
spack.lock or an earlier build, binary caches are asked how many of them they have.`

const planExample = `  pdibuild plan
  pdibuild plan --build-arg GCC=14
  pdibuild plan --format json | jq '[.stages[].steps[] | select(.cached | not)] | length'`

// keyWidth is how much of a key the table shows.
const keyWidth = 12

func newPlan(a *app) *cobra.Command {
	var (
		flags  planFlags
		store  storeFlags
		format string
	)
	cmd := &cobra.Command{
		Use:     "plan [CONTEXT]",
		Short:   "Show what a build would do",
		Long:    planLong,
		Example: planExample,
		Args:    arguments(0, 1, "one CONTEXT"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("format", format, "table", "json"); err != nil {
			return err
		}
		if err := flags.check(); err != nil {
			return err
		}
		if err := flags.setContext(args); err != nil {
			return err
		}
		if !flags.fromStdin() { // a bad recipe needs no namespace to be told so
			if _, err := flags.load(a); err != nil {
				return err
			}
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			plan, err := makePlan(ctx, a, e, &flags)
			if err != nil {
				return flags.place(err)
			}
			if err := e.ForecastSpack(ctx, plan, builder.ForecastOptions{Env: a.proxies(true), Variable: a.env}); err != nil {
				return err
			}
			return printPlan(a.stdout, plan, format)
		})
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "table", "`form` of the output: table or json")
	complete(cmd, "format", "table", "json")
	store.addStore(cmd)
	store.addRegistries(cmd)
	return cmd
}

func makePlan(ctx context.Context, a *app, e engine, flags *planFlags) (*builder.Plan, error) {
	r, err := flags.load(a)
	if err != nil {
		return nil, err
	}
	opt, err := flags.options(a, r)
	if err != nil {
		return nil, err
	}
	p := a.newPrinter(progressFlags{mode: "plain"})
	defer p.Close()
	opt.Events = p.Event
	return e.Plan(ctx, r, flags.contextDir, opt)
}

func printPlan(w io.Writer, plan *builder.Plan, format string) error {
	if format == "json" {
		return printJSON(w, plan)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "STAGE\tSTEP\tRESULT\tKEY\tWHAT")
	for _, stage := range plan.Stages {
		for i, step := range stage.Steps {
			result, key := "to do", step.Key
			if step.Cached {
				result = "cached"
			}
			if key == "" {
				key = "-"
			}
			fmt.Fprintf(tab, "%s\t%d/%d\t%s\t%s\t%s\n", stage.Name, i+1, len(stage.Steps), result, key[:min(len(key), keyWidth)], termtext.Line(termtext.FirstLine(step.Text)))
		}
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	return printForecasts(w, plan)
}

// printForecasts says what will be compiled, one line per spack step.
func printForecasts(w io.Writer, plan *builder.Plan) error {
	for _, stage := range plan.Stages {
		for i, step := range stage.Steps {
			if step.Spack == nil {
				continue
			}
			where := fmt.Sprintf("%s %d/%d", stage.Name, i+1, len(stage.Steps))
			text := step.Spack.String()
			if !step.Spack.Known {
				text += "; 'pdibuild build --write-lock' also writes it beside spack.yaml"
			}
			if _, err := fmt.Fprintf(w, "%s: %s\n", where, text); err != nil {
				return err
			}
			for _, trouble := range step.Spack.Trouble {
				if _, err := fmt.Fprintf(w, "%s: could not ask %s\n", where, trouble); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
