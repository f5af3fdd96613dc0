package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
)

const runLong = `Run a command in a container of an image, without a daemon and without root.

COMMAND replaces the image's command; the image's entrypoint, if it has one,
starts it. Flags behind IMAGE belong to COMMAND. The exit code is COMMAND's, 127
when there is no such command, 126 when it cannot be started.

What COMMAND writes to a volume belongs to you, whoever it is in the image. What
it writes elsewhere is lost. Standard input is connected, and a terminal when
there is one.`

const runExample = `  pdibuild run demo
  pdibuild run -v $PWD:/data -w /data demo -- mpirun -n 2 ./solver input.yaml
  pdibuild run --user root -e OMP_NUM_THREADS=4 demo env
  pdibuild run --entrypoint "" demo ls -l /`

func newRun(a *app) *cobra.Command {
	var (
		flags      containerFlags
		store      storeFlags
		entrypoint string
		pull       string
	)
	cmd := &cobra.Command{
		Use:     "run [flags] IMAGE [--] [COMMAND [ARG...]]",
		Short:   "Run a command in a container of an image",
		Long:    runLong,
		Example: runExample,
		Args:    arguments(1, -1, "an IMAGE; 'pdibuild images' lists them"),

		DisableFlagsInUseLine: true,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		policy, err := (&planFlags{pull: pull}).pullPolicy()
		if err != nil {
			return err
		}
		opt := flags.options(a)
		opt.Pull = policy
		if cmd.Flags().Changed("entrypoint") {
			if opt.Entrypoint, err = parseEntrypoint(entrypoint); err != nil {
				return err
			}
		}
		image := args[0]
		opt.Args = behindDashes(args[1:])
		return a.inContainer(cmd, &flags, store.session(a), func(ctx context.Context, e engine) (container, error) {
			return e.Container(ctx, image, opt)
		})
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // flags behind IMAGE are the command's
	flags.add(cmd)
	f.StringVar(&entrypoint, "entrypoint", "", "`program` instead of the image's entrypoint and command, or a JSON list; \"\" is none")
	f.StringVar(&pull, "pull", string(builder.PullMissing), "`when` to ask the registry for the image: always, missing or never")
	complete(cmd, "pull", pullWords()...)
	store.addStore(cmd)
	store.addRegistries(cmd)
	return cmd
}

// behindDashes removes the "--" between the image and the command.
func behindDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return slices.Clone(args)
}
