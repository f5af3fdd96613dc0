package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// containerFlags are those of run and shell, with podman's names.
type containerFlags struct {
	volumes, env     []string
	workdir, user    string
	network          string
	rm, httpProxy    bool
	interactive, tty bool
	flags            *pflag.FlagSet
}

func (c *containerFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	c.flags = f
	f.StringArrayVarP(&c.volumes, "volume", "v", nil, "`SOURCE:TARGET[:ro]` shows a directory or file of this host (repeatable)")
	f.StringVarP(&c.workdir, "workdir", "w", "", "`directory` to start in (default: the image's)")
	f.StringArrayVarP(&c.env, "env", "e", nil, "`NAME=VALUE` sets a variable; NAME alone takes the value from the environment (repeatable)")
	f.StringVarP(&c.user, "user", "u", "", "`user[:group]` of the image, or numbers (default: the image's)")
	f.StringVar(&c.network, "network", "host", "`kind` of network: host or none")
	f.BoolVar(&c.httpProxy, "http-proxy", true, "set this host's http_proxy, https_proxy, no_proxy and so on")
	f.BoolVarP(&c.interactive, "interactive", "i", true, "connect standard input")
	f.BoolVarP(&c.tty, "tty", "t", false, "give the command a terminal (default: when standard input and output are one)")
	f.BoolVar(&c.rm, "rm", true, "remove the container afterwards; it always is")
	complete(cmd, "network", "host", "none")
}

// check finds what is wrong with the flags by themselves.
func (c *containerFlags) check() error {
	if err := oneOf("network", c.network, "host", "none"); err != nil {
		return err
	}
	if !c.rm {
		return usagef("what is to stay is written to a volume: -v DIR:/data", "--rm=false: a container does not outlive its command")
	}
	if c.workdir != "" && !path.IsAbs(c.workdir) {
		return usagef("write -w /"+c.workdir, "--workdir: %q does not start at the root of the container", c.workdir)
	}
	for _, kv := range c.env {
		if name, _, _ := strings.Cut(kv, "="); name == "" {
			return usagef("write -e NAME=VALUE", "--env %q names no variable", kv)
		}
	}
	for _, v := range c.volumes {
		if _, err := parseVolume(v); err != nil {
			return err
		}
	}
	return nil
}

// noteEvents shows the messages of a container, and now and then how far its
// image is.
func (a *app) noteEvents() func(builder.Event) {
	var last time.Time
	return func(e builder.Event) {
		if e.Kind != progress.Transfer {
			a.note("%s", wordedEvent(e).Text)
		} else if e.Time.Sub(last) >= progress.TransferInterval {
			last = e.Time
			a.note("%s %s", e.Text, progress.TransferText(e))
		}
	}
}

// options makes the builder's options of flags that were checked.
func (c *containerFlags) options(a *app) builder.ContainerOptions {
	opt := builder.ContainerOptions{
		User: c.user, Workdir: c.workdir, NoNetwork: c.network == "none", HostEnv: a.proxies(c.httpProxy),
		Events: a.noteEvents(),
	}
	for _, kv := range c.env {
		if !strings.Contains(kv, "=") {
			value, ok := a.lookup(kv)
			if !ok {
				continue // as podman and docker do
			}
			kv += "=" + value
		}
		opt.Env = append(opt.Env, kv)
	}
	for _, text := range c.volumes {
		if v, err := parseVolume(text); err == nil {
			opt.Volumes = append(opt.Volumes, v)
		}
	}
	return opt
}

// parseVolume reads SOURCE:TARGET[:OPTION,…].
func parseVolume(text string) (builder.Volume, error) {
	const hint = "write -v DIRECTORY:/where/in/the/container, with :ro behind it to forbid writing"
	bad := func(format string, args ...any) (builder.Volume, error) {
		return builder.Volume{}, usagef(hint, "--volume %s: "+format, append([]any{text}, args...)...)
	}
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return bad("not SOURCE:TARGET")
	}
	v := builder.Volume{Source: parts[0], Target: parts[1]}
	switch {
	case v.Source == "":
		return bad("no SOURCE")
	case !strings.Contains(v.Source, "/") && v.Source != "." && v.Source != "..":
		return bad("volumes have no names here; a directory of this host is written ./%s", v.Source)
	case !path.IsAbs(v.Target) || path.Clean(v.Target) == "/":
		return bad("TARGET %q is not a path below the root of the container", v.Target)
	}
	if len(parts) < 3 {
		return v, nil
	}
	for _, option := range strings.Split(parts[2], ",") {
		switch option {
		case "ro":
			v.ReadOnly = true
		case "rw", "z", "Z", "bind", "rbind", "private", "rprivate": // what is done anyway, or nothing here
		default:
			return bad("unknown option %q; there are ro and rw", option)
		}
	}
	return v, nil
}

// parseEntrypoint reads --entrypoint as podman does: a program, or a JSON list.
func parseEntrypoint(text string) ([]string, error) {
	if text == "" {
		return []string{}, nil
	}
	if !strings.HasPrefix(text, "[") {
		return []string{text}, nil
	}
	var words []string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		return nil, usagef(`write --entrypoint PROGRAM, or --entrypoint '["PROGRAM", "ARGUMENT"]'`, "--entrypoint %s: %w", text, err)
	}
	return words, nil
}

// A console is what a command in a container may be connected with.
type console struct {
	streams builder.Streams
	// stdin and stdout are terminals.
	stdin, stdout bool
}

func standardConsole() console {
	return console{
		streams: builder.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr},
		stdin:   term.IsTerminal(int(os.Stdin.Fd())),
		stdout:  term.IsTerminal(int(os.Stdout.Fd())),
	}
}

// connect chooses the streams.
func (c *containerFlags) connect(con console) builder.Streams {
	s := con.streams
	s.Terminal = c.tty
	if !c.flags.Changed("tty") {
		s.Terminal = con.stdin && con.stdout && c.interactive
	}
	if !c.interactive {
		s.Stdin = nil
	}
	return s
}

// inContainer enters the namespace, opens the store and a container, and runs
// the command. Until it runs, signals end this program; then they are the
// command's. The error is an exitStatus when the command has failed.
func (a *app) inContainer(cmd *cobra.Command, c *containerFlags, s session, open func(ctx context.Context, e engine) (container, error)) error {
	if err := a.enter(); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context(), func() {})
	defer stop()
	return a.withStore(ctx, s, func(ctx context.Context, e engine) (err error) {
		box, err := open(ctx, e)
		if err != nil {
			return asUsage(err)
		}
		defer func() {
			if closing := box.Close(); closing != nil {
				err = errors.Join(err, fmt.Errorf("remove the container: %w", closing))
			}
		}()
		stop()
		streams := c.connect(a.console())
		signals, end := passedOn()
		defer end()
		streams.Signals = signals
		code, err := box.Run(context.WithoutCancel(ctx), streams)
		if err == nil && code != 0 {
			err = exitStatus(code)
		}
		return err
	})
}
