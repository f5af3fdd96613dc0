package main

import (
	"context"

	"github.com/spf13/cobra"
)

const exportLong = `Write an image of the store to a file or directory. DESTINATION is one of

  oci-archive:FILE[:NAME]     one file; Apptainer, podman and skopeo read it
  oci:DIR[:NAME]              a directory in the OCI image layout
  docker-archive:FILE[:NAME]  one file; 'docker load' reads it
  dir:DIR                     a directory as skopeo's dir: transport has it

A FILE that is there is replaced when the new one is complete. FILE may be a pipe
or a link; - is standard output. oci:DIR adds the image to those that are there.`

const exportExample = `  pdibuild export demo oci-archive:demo.tar
  apptainer build demo.sif oci-archive://demo.tar
  pdibuild export demo docker-archive:- | docker load`

func newExport(a *app) *cobra.Command {
	var flags transferFlags
	cmd := &cobra.Command{
		Use:     "export IMAGE DESTINATION",
		Short:   "Write an image to a file or directory",
		Long:    exportLong,
		Example: exportExample,
		Args:    arguments(2, 2, "an IMAGE and a DESTINATION"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		image, destination := args[0], args[1]
		var written outputs
		if err := written.addImage("export", destination); err != nil {
			return err
		}
		if err := flags.check(a); err != nil {
			return err
		}
		return a.inStore(cmd, flags.store.session(a), func(ctx context.Context, e engine) error {
			opt, p := flags.options(a, "export")
			err := e.Export(ctx, image, destination, opt)
			p.Close()
			if err != nil {
				return asUsage(err)
			}
			if !flags.progress.quiet && flags.progress.mode != "json" {
				a.note("wrote %s to %s%s", image, destination, replacing(written.images[0]))
			}
			return nil
		})
	}
	flags.add(cmd)
	return cmd
}

// replacing adds that a file had another content before.
func replacing(to imageOutput) string {
	if to.Replaces() {
		return ", in the place of the file that was there"
	}
	return ""
}
