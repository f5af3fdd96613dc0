package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// A shellVerb is one run of 'pdibuild shell'.
type shellVerb struct {
	app    *app
	flags  containerFlags
	store  storeFlags
	plan   planFlags
	stage  string
	failed bool
}

const shellLong = `Look inside with a shell: bash where there is one, else sh.

  pdibuild shell IMAGE               an image of the store
  pdibuild shell --stage NAME [DIR]  a stage of the recipe in DIR, as far as it
                                     is built; "" is the last stage
  pdibuild shell --failed [DIR]      the step that has failed, as it was then:
                                     its files, directory and environment

A COMMAND behind '--' is run instead of the shell. The image's entrypoint is
not. What you change is lost, but for volumes and the container of a failed
step: that one stays until another step of the recipe fails or its build
succeeds. 'pdibuild rm --failed' removes it, too.`

const shellExample = `  pdibuild shell demo
  pdibuild shell --failed
  pdibuild shell --failed -- make VERBOSE=1
  pdibuild shell --stage builder -v $PWD:/work -w /work`

func newShell(a *app) *cobra.Command {
	v := &shellVerb{app: a}
	cmd := &cobra.Command{
		Use:     "shell [flags] [IMAGE | --stage NAME [DIR] | --failed [DIR]] [-- COMMAND [ARG...]]",
		Short:   "Look inside an image, a stage or a failed step",
		Long:    shellLong,
		Example: shellExample,
		RunE:    v.run,

		DisableFlagsInUseLine: true,
	}
	f := cmd.Flags()
	f.StringVar(&v.stage, "stage", "", "`name` of a stage of the recipe")
	f.BoolVar(&v.failed, "failed", false, "the step that has failed")
	f.StringVarP(&v.plan.file, "file", "f", "", "recipe `file` (default: pdibuild.yaml in DIR)")
	f.StringArrayVar(&v.plan.buildArgs, "build-arg", nil, "`NAME=VALUE` that the stage was built with (repeatable)")
	f.StringVar(&v.plan.platform, "platform", "", "`os/arch[/variant]` that the stage was built for")
	v.flags.add(cmd)
	v.store.addStore(cmd)
	return cmd
}

func (v *shellVerb) run(cmd *cobra.Command, args []string) error {
	var command []string
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		args, command = args[:n], args[n:]
	}
	if err := v.check(cmd, args); err != nil {
		return err
	}
	opt := v.flags.options(v.app)
	opt.Shell, opt.Args, opt.Pull = true, command, builder.PullNever
	return v.app.inContainer(cmd, &v.flags, v.store.session(v.app), func(ctx context.Context, e engine) (container, error) {
		switch {
		case v.failed:
			return e.FailedContainer(ctx, v.plan.source(), opt)
		case cmd.Flags().Changed("stage"):
			return v.stageContainer(ctx, e, opt)
		}
		return e.Container(ctx, args[0], opt)
	})
}

// check finds what is wrong with the command line by itself.
func (v *shellVerb) check(cmd *cobra.Command, args []string) error {
	v.plan.pull = string(builder.PullMissing)
	v.plan.target, v.plan.targetFlag = v.stage, "stage"
	staged := cmd.Flags().Changed("stage")
	switch {
	case staged && v.failed:
		return usagef(seeHelp(cmd), "--stage and --failed are two different things to look at")
	case !staged && !v.failed && len(args) == 0:
		return usagef("'pdibuild images' lists the images; 'pdibuild shell --failed' shows the step that has failed", "pdibuild shell needs an IMAGE, --stage NAME or --failed")
	case len(args) > 1:
		return usagef("write '--' before a command", "pdibuild shell takes one IMAGE or DIR, but was also given %q", args[1])
	}
	if err := v.flags.check(); err != nil {
		return err
	}
	if !staged && !v.failed {
		return nil
	}
	if err := v.plan.setContext(args); err != nil {
		return err
	}
	return v.plan.check()
}

func (v *shellVerb) stageContainer(ctx context.Context, e engine, opt builder.ContainerOptions) (container, error) {
	r, err := v.plan.load(v.app)
	if err != nil {
		return nil, err
	}
	planOptions, err := v.plan.options(v.app, r)
	if err != nil {
		return nil, err
	}
	plan, err := e.Plan(ctx, r, v.plan.contextDir, planOptions)
	if err != nil {
		return nil, err
	}
	return e.StageContainer(ctx, plan, v.stage, opt)
}
