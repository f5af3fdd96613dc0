package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
)

const pushLong = `Push an image of the store to a registry and print the digest of its manifest
there. IMAGE is a name or an id; DESTINATION is a name at a registry, by default
the image's own name, unless that is one of this host (localhost/…).

With --buildcache, and no IMAGE, it sends the Spack packages that a build could
not send to the binary cache of its environment: they wait in the local one.

Credentials are those of 'podman login' and 'docker login', or --creds. For
--buildcache also the variables that the mirror's access_pair names.`

const pushExample = `  pdibuild push ghcr.io/site/app:1.2
  pdibuild push localhost/demo registry.example.org/site/demo:latest
  pdibuild push --tls-verify=false demo 127.0.0.1:5000/demo
  pdibuild push --buildcache --creds me`

// transferFlags are those of the verbs that send one image away.
type transferFlags struct {
	store       storeFlags
	compression compressionFlags
	progress    progressFlags
}

func (t *transferFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	t.compression.add(cmd, "the layers")
	f.StringVar(&t.progress.mode, "progress", "auto", "`style` of progress: auto, plain, json or tty")
	f.BoolVarP(&t.progress.quiet, "quiet", "q", false, "show errors only")
	complete(cmd, "progress", "auto", "plain", "json", "tty")
	t.store.addStore(cmd)
}

func (t *transferFlags) check(a *app) error {
	if err := t.progress.check(); err != nil {
		return err
	}
	a.jsonErrors = t.progress.mode == "json"
	return t.compression.check()
}

// compressionFlags are common to all verbs that write layers.
type compressionFlags struct {
	method string
	level  int
}

func (c *compressionFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&c.method, "compression", "gzip", "`method` for "+what+": gzip, zstd, zstd:chunked or none")
	cmd.Flags().IntVar(&c.level, "compression-level", 0, "`level`: 1 to 9 for gzip, 1 to 20 for zstd (default the method's own)")
	complete(cmd, "compression", "gzip", "zstd", "zstd:chunked", "none")
}

func (c *compressionFlags) check() error {
	return oneOf("compression", c.method, "gzip", "zstd", "zstd:chunked", "none")
}

// options are those of the transfer; what says which it is. Close the printer
// that shows it before anything else is written.
func (t *transferFlags) options(a *app, what string) (builder.PushOptions, progress.Printer) {
	p := a.newPrinter(t.progress)
	opt := builder.PushOptions{Compression: t.compression.method, CompressionLevel: t.compression.level}
	opt.Report, opt.Events = outputOf(p, what), eventsOf(p, what)
	return opt, p
}

// outputOf shows what a transfer reports as output of what it is.
func outputOf(p progress.Printer, what string) *lineWriter {
	return &lineWriter{line: func(line []byte) { p.Output(what, 0, line) }}
}

// eventsOf lets the bytes of a transfer share a live line with its output.
func eventsOf(p progress.Printer, what string) func(builder.Event) {
	return func(e builder.Event) {
		e.Stage = what
		p.Event(e)
	}
}

// A pushVerb is what push is asked for.
type pushVerb struct {
	flags      transferFlags
	attach     attachFlags
	digestFile string
	packages   bool
	written    outputs
}

func newPush(a *app) *cobra.Command {
	var v pushVerb
	cmd := &cobra.Command{
		Use:     "push {IMAGE [DESTINATION] | --buildcache}",
		Short:   "Push an image to a registry",
		Long:    pushLong,
		Example: pushExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if !v.packages {
				return arguments(1, 2, "an IMAGE and perhaps a DESTINATION")(cmd, args)
			}
			return arguments(0, 0, "no IMAGE beside --buildcache")(cmd, args)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := v.flags.check(a); err != nil {
			return err
		}
		if err := v.attach.check(); err != nil {
			return err
		}
		v.written = outputs{}
		if err := v.written.addFile("--digestfile", v.digestFile); err != nil {
			return err
		}
		return a.inStore(cmd, v.flags.store.session(a), func(ctx context.Context, e engine) error {
			if v.packages {
				return a.pushPending(ctx, e)
			}
			return v.image(ctx, a, e, args)
		})
	}
	v.flags.add(cmd)
	v.flags.store.addRegistries(cmd)
	v.attach.add(cmd)
	cmd.Flags().BoolVar(&v.packages, "buildcache", false, "send the Spack packages that builds could not send to their binary caches")
	cmd.Flags().StringVar(&v.digestFile, "digestfile", "", "also write the digest to this `file`")
	return cmd
}

// image pushes an image, and says what it is called there.
func (v *pushVerb) image(ctx context.Context, a *app, e engine, args []string) (err error) {
	image, destination := args[0], ""
	if len(args) > 1 {
		destination = args[1]
	} else if destination, err = e.Destination(image); err != nil {
		return asUsage(err)
	}
	opt, p := v.flags.options(a, "push")
	digest, err := e.Push(ctx, image, destination, opt)
	p.Close()
	if err != nil {
		return asUsage(err)
	}
	err = v.written.write(ctx, "--digestfile", func() ([]byte, error) { return []byte(digest), nil })
	if err != nil {
		return fmt.Errorf("%s is pushed, but: %w", destination, err)
	}
	if _, err := fmt.Fprintln(a.stdout, digest); err != nil {
		return err
	}
	return a.attach(ctx, e, &v.attach, image, pushedImage{destination, digest})
}

// pushPending sends the packages that wait for their binary cache.
func (a *app) pushPending(ctx context.Context, e engine) error {
	sent, err := e.PushPending(ctx, builder.PendingPushOptions{
		Env:    a.proxies(true),
		Report: func(text string) { a.note("%s", text) },
		Credential: func(p builder.PendingPush) (user, password string) {
			return a.env(p.UserVariable), a.env(p.SecretVariable)
		},
	})
	if err == nil && sent == 0 {
		a.note("no packages wait for a binary cache")
	}
	return err
}
