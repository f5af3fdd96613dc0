package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newRm(a *app) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"rmi"},
		Short:   "Remove images from the store",
		Long: `Remove names from their images, and with the last name the image itself, with
the layers that no other image uses. Given an id, remove the image with all its
names. Prints what was removed.`,
		Example: "  pdibuild rm localhost/demo:latest",
		Args:    arguments(1, -1, "at least one IMAGE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			var failed failures
			for _, image := range args {
				if err := e.Remove(ctx, image); err != nil {
					failed = append(failed, asUsage(err))
					continue
				}
				if _, err := fmt.Fprintln(a.stdout, image); err != nil {
					return err
				}
			}
			if len(failed) > 0 {
				return failed
			}
			return nil
		})
	}
	store.addStore(cmd)
	return cmd
}
