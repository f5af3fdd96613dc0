package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/inspect"
)

const inspectLong = `Look into an image: its layers and what made each, what they add, change and
remove, data that is never visible, its packages and its configuration.

IMAGE is an image of the store, or one elsewhere: docker://REGISTRY/NAME:TAG,
oci:DIR, oci-archive:FILE, docker-archive:FILE. It is read, not fetched into the
store. Memory depends on the number of its files, not on its size.

--why NAME answers why a package is there. --diff compares two images. --ci
checks the image against limits and ends with code 8 if it does not keep them.`

const inspectExample = `  pdibuild inspect demo
  pdibuild inspect --tree demo                      # look around, as with dive
  pdibuild inspect --format html demo >demo.html
  pdibuild inspect --why hdf5 demo
  pdibuild inspect --diff demo:1.1 demo:1.2
  pdibuild inspect --ci docker://ghcr.io/site/app:1.2`

// An inspectVerb is one run of 'pdibuild inspect'.
type inspectVerb struct {
	app              *app
	store            storeFlags
	format, platform string
	why              string
	diff, files      bool
	ci               string
	tree             bool
	largest          int
}

func newInspect(a *app) *cobra.Command {
	v := &inspectVerb{app: a}
	cmd := &cobra.Command{
		Use:     "inspect {IMAGE | --diff IMAGE IMAGE}",
		Short:   "Look into an image: layers, waste, packages",
		Long:    inspectLong,
		Example: inspectExample,
		RunE:    v.run,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if v.diff {
			return arguments(2, 2, "two IMAGEs to compare")(cmd, args)
		}
		return arguments(1, 1, "an IMAGE; 'pdibuild images' lists them")(cmd, args)
	}
	f := cmd.Flags()
	f.StringVar(&v.format, "format", "text", "`form` of the output: text, json or html")
	f.StringVar(&v.why, "why", "", "say which packages need the `package`, and from where: NAME, NAME@VERSION or /HASH")
	f.BoolVar(&v.diff, "diff", false, "compare two images")
	f.StringVar(&v.ci, "ci", "", "check the image against the limits in a `file` (default "+inspect.LimitsFileName+", or built-in ones)")
	f.Lookup("ci").NoOptDefVal = defaultLimits
	f.BoolVar(&v.tree, "tree", false, "look around in layers and files on the terminal")
	f.BoolVar(&v.files, "files", false, "list every file that changes and all waste, not only the largest")
	f.IntVar(&v.largest, "largest", 10, "`number` of the largest files, directories and wastes to list")
	f.StringVar(&v.platform, "platform", "", "`os/arch` to take of an image for several (default: this host's)")
	complete(cmd, "format", "text", "json", "html")
	v.store.addStore(cmd)
	v.store.addRegistries(cmd)
	return cmd
}

func (v *inspectVerb) check() error {
	if err := oneOf("format", v.format, "text", "json", "html"); err != nil {
		return err
	}
	if v.largest < 1 {
		return usagef("--files lists all", "--largest %d is less than 1", v.largest)
	}
	questions := 0
	for _, asked := range []bool{v.diff, v.why != "", v.ci != "", v.tree} {
		if asked {
			questions++
		}
	}
	if questions > 1 {
		return usagef("ask one after the other", "--why, --diff, --ci and --tree are different questions")
	}
	if v.format == "html" && questions > 0 {
		return usagef("choose text or json", "--format html shows one image as a whole")
	}
	return nil
}

func (v *inspectVerb) run(cmd *cobra.Command, args []string) error {
	if err := v.check(); err != nil {
		return err
	}
	return v.app.inStore(cmd, v.store.session(v.app), func(ctx context.Context, e engine) error {
		switch {
		case v.diff:
			return v.compare(ctx, e, args[0], args[1])
		case v.ci != "":
			return v.checkLimits(ctx, e, args[0])
		}
		img, err := v.app.readImage(ctx, e, args[0], v.platform, inspect.Options{})
		if err != nil {
			return err
		}
		switch {
		case v.why != "":
			return v.explainPackage(img)
		case v.tree:
			return v.look(ctx, img)
		}
		return v.show(img)
	})
}

// readImage reads an image as a whole.
func (a *app) readImage(ctx context.Context, e engine, name, platform string, opt inspect.Options) (*inspect.Image, error) {
	src, err := e.OpenImage(ctx, name, platform)
	if err != nil {
		return nil, asUsage(err)
	}
	img, err := inspect.Read(ctx, src, opt)
	if err = asUsage(err); errors.Is(err, tar.ErrHeader) {
		err = usagef("the image is damaged: make it anew, or take another one", "%w", err)
	}
	if closing := src.Close(); err == nil && closing != nil {
		err = fmt.Errorf("close %s: %w", name, closing)
	}
	return img, err
}

func (v *inspectVerb) show(img *inspect.Image) error {
	opt := inspect.ReportOptions{Largest: v.largest, AllFiles: v.files}
	if v.format == "html" {
		return inspect.WriteHTML(v.app.stdout, img, opt)
	}
	r := img.Report(opt)
	if v.format == "json" {
		return printJSON(v.app.stdout, r)
	}
	return inspect.WriteText(v.app.stdout, r)
}

func (v *inspectVerb) explainPackage(img *inspect.Image) error {
	answers, err := img.Why(v.why)
	if err != nil {
		hint := "'pdibuild inspect --format json' lists the packages"
		if near := nearest(v.why, img.Packages()); near != "" {
			hint = fmt.Sprintf("did you mean --why %s? %s", near, hint)
		}
		return usagef(hint, "--why: %w", err)
	}
	if v.format == "json" {
		return printJSON(v.app.stdout, answers)
	}
	return inspect.WriteWhy(v.app.stdout, answers)
}

func (v *inspectVerb) compare(ctx context.Context, e engine, a, b string) error {
	var sides []*inspect.Image
	for _, name := range []string{a, b} {
		img, err := v.app.readImage(ctx, e, name, v.platform, inspect.Options{})
		if err != nil {
			return err
		}
		sides = append(sides, img)
	}
	limit := v.largest
	if v.files {
		limit = 0
	}
	d := inspect.Compare(sides[0], sides[1], limit)
	if v.format == "json" {
		return printJSON(v.app.stdout, d)
	}
	return inspect.WriteDiff(v.app.stdout, d)
}
