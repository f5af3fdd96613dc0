package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newRm(a *app) *cobra.Command {
	var (
		store  storeFlags
		failed bool
	)
	cmd := &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"rmi"},
		Short:   "Remove images from the store",
		Long: `Remove names from their images, and with the last name the image itself, with
the layers that no other image uses. Given an id, remove the image with all its
names. Prints what was removed.

--failed removes the containers of failed steps that 'pdibuild shell --failed'
shows.`,
		Example: "  pdibuild rm localhost/demo:latest\n  pdibuild rm --failed",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !failed {
			return arguments(1, -1, "at least one IMAGE")(cmd, args)
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			if failed {
				n, err := e.RemoveFailed(ctx)
				if err != nil {
					return err
				}
				a.note("%d containers of failed steps removed", n)
			}
			var wrong failures
			for _, image := range args {
				if err := e.Remove(ctx, image); err != nil {
					wrong = append(wrong, asUsage(err))
					continue
				}
				if _, err := fmt.Fprintln(a.stdout, image); err != nil {
					return err
				}
			}
			if len(wrong) > 0 {
				return wrong
			}
			return nil
		})
	}
	cmd.Flags().BoolVar(&failed, "failed", false, "remove the containers of failed steps")
	store.addStore(cmd)
	return cmd
}
