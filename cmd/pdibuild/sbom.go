package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/inspect"
)

const sbomLong = `Print a bill of materials of an image: its Spack packages, and the packages of
the Debian or Ubuntu below them. The same image gives the same bytes.

IMAGE is an image of the store, or one elsewhere, as with 'pdibuild inspect'.

'build --sbom' and 'push --sbom' attach the bill to the image in the registry.`

const sbomExample = `  pdibuild sbom demo >demo.spdx.json
  pdibuild sbom --format cyclonedx docker://ghcr.io/site/app:1.2
  pdibuild push --sbom --provenance ghcr.io/site/app:1.2`

// A bill is one form of a bill of materials.
type bill struct {
	mediaType string
	write     func(io.Writer, *inspect.Image) error
}

func bills() map[string]bill {
	return map[string]bill{
		"spdx":      {"application/spdx+json", inspect.WriteSPDX},
		"cyclonedx": {"application/vnd.cyclonedx+json", inspect.WriteCycloneDX},
	}
}

func newSBOM(a *app) *cobra.Command {
	var (
		store            storeFlags
		format, platform string
	)
	cmd := &cobra.Command{
		Use:     "sbom IMAGE",
		Short:   "Print a bill of materials of an image",
		Long:    sbomLong,
		Example: sbomExample,
		Args:    arguments(1, 1, "an IMAGE; 'pdibuild images' lists them"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("format", format, "spdx", "cyclonedx"); err != nil {
			return err
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			img, err := a.readImage(ctx, e, args[0], platform, inspect.Options{})
			if err != nil {
				return err
			}
			return bills()[format].write(a.stdout, img)
		})
	}
	cmd.Flags().StringVar(&format, "format", "spdx", "`form` of the bill: spdx (2.3, JSON) or cyclonedx (JSON)")
	cmd.Flags().StringVar(&platform, "platform", "", "`os/arch` to take of an image for several (default: this host's)")
	complete(cmd, "format", "spdx", "cyclonedx")
	store.addStore(cmd)
	store.addRegistries(cmd)
	return cmd
}

// attachFlags are those of the verbs that push.
type attachFlags struct {
	sbom       string
	provenance bool
}

func (f *attachFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sbom, "sbom", "", "attach a bill of materials to the pushed image: `form` spdx (default) or cyclonedx")
	cmd.Flags().Lookup("sbom").NoOptDefVal = "spdx"
	cmd.Flags().BoolVar(&f.provenance, "provenance", false, "attach to the pushed image how it was built (SLSA provenance)")
	complete(cmd, "sbom", "spdx", "cyclonedx")
}

func (f *attachFlags) check() error {
	if f.sbom == "" {
		return nil
	}
	return oneOf("sbom", f.sbom, "spdx", "cyclonedx")
}

// attach sends what the flags ask for after the image itself. Image is in the
// store, destination and digest say what was pushed.
func (a *app) attach(ctx context.Context, e engine, f *attachFlags, image string, pushed pushedImage) error {
	send := func(what, mediaType string, content []byte) error {
		d, err := e.Attach(ctx, pushed.Name, pushed.Digest, builder.Attachment{Type: mediaType, Content: content})
		if err != nil {
			return fmt.Errorf("%s@%s is pushed, but its %s is not: %w", pushed.Name, pushed.Digest, what, err)
		}
		a.note("attached the %s to %s: %s", what, pushed.Name, d)
		return nil
	}
	if f.sbom != "" {
		img, err := a.readImage(ctx, e, image, "", inspect.Options{})
		if err != nil {
			return err
		}
		var out bytes.Buffer
		b := bills()[f.sbom]
		if err := b.write(&out, img); err != nil {
			return err
		}
		if err := send("bill of materials", b.mediaType, out.Bytes()); err != nil {
			return err
		}
	}
	if f.provenance {
		statement, err := e.Provenance(image, pushed.Name, pushed.Digest, readVersion().Version)
		if err != nil {
			return asUsage(err)
		}
		return send("provenance", builder.ProvenanceType, statement)
	}
	return nil
}
