package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// storeFlags say where images live and how registries are talked to.
type storeFlags struct {
	root, runRoot, driver, logDir string

	authFile, creds, certDir string
	tlsVerify, layerURLs     bool
	flags                    *pflag.FlagSet
	// limited makes the store keep the limits of the configuration.
	limited bool
}

// addStore adds the flags of every verb that opens the store.
func (s *storeFlags) addStore(cmd *cobra.Command) {
	f := cmd.Flags()
	s.flags = f
	f.StringVar(&s.root, "storage-root", "", "`directory` of the image store (default: the one that podman uses)")
	f.StringVar(&s.runRoot, "runroot", "", "`directory` for state that does not survive a reboot")
	f.StringVar(&s.driver, "storage-driver", "", "`name`: overlay or vfs (default: the best one that works here)")
	hide(cmd, "runroot")
	complete(cmd, "storage-driver", "overlay", "vfs")
}

// addRegistries adds the flags of every verb that talks to registries.
func (s *storeFlags) addRegistries(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.creds, "creds", "", "`user[:password]` for the registry; without a password you are asked for it")
	f.StringVar(&s.authFile, "authfile", "", "`file` with credentials, as 'podman login' writes it (default: $REGISTRY_AUTH_FILE, then podman's, then docker's)")
	f.StringVar(&s.certDir, "cert-dir", "", "`directory` with certificates and keys for the registry")
	f.BoolVar(&s.tlsVerify, "tls-verify", true, "require HTTPS and a known certificate")
	f.BoolVar(&s.layerURLs, "allow-layer-urls", false, "fetch layers from addresses that an image's manifest names")
}

// options makes the builder's options; it may ask for a password.
func (s *storeFlags) options(a *app) (builder.StoreOptions, error) {
	if s.driver != "" {
		if err := oneOf("storage-driver", s.driver, "overlay", "vfs"); err != nil {
			return builder.StoreOptions{}, err
		}
	}
	opt := builder.StoreOptions{Root: s.root, RunRoot: s.runRoot, Driver: s.driver, LogDir: s.logDir}
	if s.limited {
		c, err := a.config()
		if err != nil {
			return opt, err
		}
		opt.Limits = c.limits
	}
	opt.Registries = builder.Registries{AuthFile: s.authFile, CertDir: s.certDir, LoginFiles: a.authFiles(), AllowLayerURLs: s.layerURLs}
	if s.authFile == "" {
		opt.Registries.AuthFile = a.env("REGISTRY_AUTH_FILE")
	}
	if s.flags.Changed("tls-verify") {
		opt.Registries.TLSVerify = &s.tlsVerify
	}
	if s.creds == "" {
		return opt, nil
	}
	user, password, given := strings.Cut(s.creds, ":")
	if user == "" {
		return opt, usagef("write --creds USER or --creds USER:PASSWORD", "--creds names no user")
	}
	if !given {
		var err error
		if password, err = a.password("Password of " + user + ": "); err != nil {
			return opt, usagef("write --creds USER:PASSWORD, or log in before with 'podman login'", "ask for the password of %s: %w", user, err)
		}
	}
	opt.Registries.Username, opt.Registries.Password = user, password
	return opt, nil
}

// session uses the store that the flags name.
func (s *storeFlags) session(a *app) session {
	return session{store: func() (builder.StoreOptions, error) { return s.options(a) }}
}

// hide leaves a flag out of the help. A flag that is not there is a mistake
// in this program.
func hide(cmd *cobra.Command, flag string) {
	if err := cmd.Flags().MarkHidden(flag); err != nil {
		panic(err)
	}
}

// complete tells the shell the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err)
	}
}

// oneOf checks the value of a flag that has a fixed set of them.
func oneOf(flag, value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	hint := fmt.Sprintf("--%s is one of %s", flag, strings.Join(values, ", "))
	if near := nearest(value, values); near != "" {
		hint = fmt.Sprintf("did you mean --%s=%s? %s", flag, near, hint)
	}
	return usagef(hint, "--%s: unknown value %q", flag, value)
}
