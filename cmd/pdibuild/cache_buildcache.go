package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/internal/registry"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

const buildcacheLong = `Work with Spack's binary caches, as 'spack buildcache push' makes them.

A CACHE is one of
  DIRECTORY  file://DIRECTORY           a directory
  https://HOST/PATH  http://HOST/PATH   the same at a web server, to read only
  oci://HOST/NAME  oci+http://HOST/NAME a repository in a container registry

A FILTER chooses packages: NAME, NAME@VERSION, NAME@=VERSION, NAME@1.10:1.12,
+VARIANT, ~VARIANT, VARIANT=VALUE, /HASH, %COMPILER,
platform=, os=, target= and arch=PLATFORM-OS-TARGET (with wildcards), or several
of these in quotes: 'hdf5@1.14 target=zen*'. Of several FILTERs one suffices.

Credentials are those of 'podman login' and 'docker login', or --creds.`

func newBuildcache(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "buildcache VERB",
		Short: "Work with Spack's binary caches",
		Long:  buildcacheLong,
	}
	cmd.AddCommand(
		newBuildcacheLs(a), newBuildcacheInfo(a), newBuildcacheVerify(a),
		newBuildcacheCopy(a), newBuildcachePush(a), newBuildcachePull(a),
		newBuildcachePrune(a), newBuildcacheIndex(a),
	)
	return group(cmd)
}

// cacheFlags say how binary caches are talked to.
type cacheFlags struct {
	authFile, creds, certDir, caFile string
	tlsVerify                        bool
	jobs                             int
	chunkSize                        string
	userVariable, passwordVariable   string
	quiet                            bool
	format                           string

	// mainCreds are for the cache that a verb is about, if --creds are not.
	mainCreds string
	// asked are passwords that were typed in, by user.
	asked map[string]string
}

func (c *cacheFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.creds, "creds", "", "`user[:password]`; without a password you are asked for it")
	f.StringVar(&c.userVariable, "username-variable", "", "`name` of the variable that has the user, such as a mirror's access_pair names")
	f.StringVar(&c.passwordVariable, "password-variable", "", "`name` of the variable that has the password")
	f.StringVar(&c.authFile, "authfile", "", "`file` with credentials, as 'podman login' writes it (default: $REGISTRY_AUTH_FILE, then podman's, then docker's)")
	f.StringVar(&c.certDir, "cert-dir", "", "`directory` with certificates and keys")
	f.StringVar(&c.caFile, "ca-file", "", "`file` with certificate authorities besides the system's")
	f.BoolVar(&c.tlsVerify, "tls-verify", true, "require a known certificate")
	f.IntVarP(&c.jobs, "jobs", "j", 0, "do `n` things side by side (default: 8)")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "show errors only")
	f.StringVar(&c.format, "format", "table", "`form` of the output: table or json")
	complete(cmd, "format", "table", "json")
}

// addUpload adds what is about sending blobs alone.
func (c *cacheFlags) addUpload(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.chunkSize, "chunk-size", "", "send blobs to a registry in pieces of `size`, such as 16MB, for registries and proxies that take no more at once (default: in one piece, and in pieces of 8 MiB where that is refused)")
}

// options makes the library's options; it may ask for a password. Creds is
// --creds or one that is for this cache alone.
func (c *cacheFlags) options(a *app, creds string) (buildcache.Options, error) {
	opt := buildcache.Options{
		CAFile: c.caFile, CertDir: c.certDir, Insecure: !c.tlsVerify, Jobs: c.jobs,
		Proxy: http.ProxyFromEnvironment,
	}
	if c.chunkSize != "" {
		var err error
		if opt.ChunkSize, err = quantity.Size(c.chunkSize); err != nil {
			return opt, usagef("write such as --chunk-size 16MB", "--chunk-size: %w", err)
		}
		if opt.ChunkSize == 0 {
			return opt, usagef("write such as --chunk-size 16MB", "--chunk-size %q is not the size of a piece", c.chunkSize)
		}
	}
	if !c.quiet {
		opt.Report = func(text string) { a.note("%s", text) }
	}
	if creds == "" && c.userVariable+c.passwordVariable != "" {
		var err error
		opt.Credentials, err = c.fromVariables(a)
		return opt, err
	}
	if creds == "" {
		files := []string{c.authFile}
		if c.authFile == "" {
			files = a.authFiles()
		} else if _, err := os.Stat(c.authFile); err != nil {
			return opt, fmt.Errorf("--authfile: %w", err)
		}
		opt.Credentials = buildcache.AuthFiles(files...)
		return opt, nil
	}
	user, password, given := strings.Cut(creds, ":")
	if user == "" {
		return opt, usagef("write --creds USER or --creds USER:PASSWORD", "--creds names no user")
	}
	if !given {
		var err error
		if password, err = c.ask(a, user); err != nil {
			return opt, err
		}
	}
	opt.Credentials = always(user, password)
	return opt, nil
}

func always(user, password string) buildcache.CredentialFunc {
	return func(context.Context, string, string) (buildcache.Credential, error) {
		return buildcache.Credential{Username: user, Password: password}, nil
	}
}

// fromVariables takes user and password from where a mirror's access_pair says.
func (c *cacheFlags) fromVariables(a *app) (buildcache.CredentialFunc, error) {
	var values [2]string
	for i, flag := range []struct{ name, variable string }{{"username-variable", c.userVariable}, {"password-variable", c.passwordVariable}} {
		if flag.variable == "" {
			return nil, usagef("give both --username-variable and --password-variable", "--%s is missing", flag.name)
		}
		if values[i] = a.env(flag.variable); values[i] == "" {
			return nil, usagef("set it, or log in before with 'podman login'", "--%s: the variable %s is not set", flag.name, flag.variable)
		}
	}
	return always(values[0], values[1]), nil
}

// ask asks for the password of a user, once.
func (c *cacheFlags) ask(a *app, user string) (string, error) {
	if password, ok := c.asked[user]; ok {
		return password, nil
	}
	password, err := a.password("Password of " + user + ": ")
	if err != nil {
		return "", usagef("write --creds USER:PASSWORD, or log in before with 'podman login'", "ask for the password of %s: %w", user, err)
	}
	c.asked = map[string]string{user: password}
	return password, nil
}

// authFiles are where podman and docker keep logins.
func (a *app) authFiles() []string { return registry.LoginFiles(a.env) }

// openCache opens the cache that an argument names.
func (c *cacheFlags) openCache(ctx context.Context, a *app, address, creds string) (*buildcache.Cache, error) {
	if creds == "" {
		creds = c.creds
	}
	opt, err := c.options(a, creds)
	if err != nil {
		return nil, err
	}
	if dir, err := filepath.Abs(strings.TrimPrefix(address, "file://")); err == nil {
		opt.Confined = strings.HasSuffix(dir, "/"+builder.LocalBuildcache)
	}
	cache, err := buildcache.Open(ctx, address, opt)
	if err == nil {
		return cache, nil
	}
	if _, remote := buildcache.Remote(err); remote {
		return nil, cacheError(err)
	}
	return nil, &usageError{err: err, hint: "see 'pdibuild cache buildcache --help' for what a CACHE is"}
}

// inCache checks the flags, opens the cache that the first argument names and
// does the work, which a signal interrupts.
func (c *cacheFlags) inCache(a *app, cmd *cobra.Command, address string, work func(ctx context.Context, cache *buildcache.Cache) error) error {
	if err := oneOf("format", c.format, "table", "json"); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context(), func() { a.note(stoppingText) })
	defer stop()
	cache, err := c.openCache(ctx, a, address, c.mainCreds)
	if err != nil {
		return err
	}
	err = work(ctx, cache)
	var interrupt *interruptError
	if err != nil && errors.As(context.Cause(ctx), &interrupt) {
		return interrupt
	}
	return cacheError(err)
}

// A serverError is an error of the network, which has an exit code and a hint
// of its own.
type serverError struct {
	err      error
	registry *builder.RegistryError
}

func (e *serverError) Error() string   { return e.err.Error() }
func (e *serverError) Unwrap() []error { return []error{e.err, e.registry} }

// cacheError tells the kinds of errors apart.
func cacheError(err error) error {
	switch {
	case errors.Is(err, buildcache.ErrReadOnly):
		return usagef("only directories of layout 3 and registries can be written to", "%w", err)
	case errors.Is(err, buildcache.ErrNoListing):
		return fmt.Errorf("%w; make one with 'pdibuild cache buildcache index' where the files are", err)
	}
	host, remote := buildcache.Remote(err)
	if !remote {
		return err
	}
	asked := &builder.RegistryError{Op: "ask", Image: host, Err: err}
	var (
		nobody  *buildcache.NoCredentialError
		refused *buildcache.RefusedError
		page    *buildcache.WebPageError
	)
	switch {
	case errors.As(err, &nobody):
		asked.Hint = fmt.Sprintf("log in with 'podman login %s', or give --creds USER, which asks for the password, --username-variable and --password-variable, or --authfile FILE", host)
	case errors.As(err, &refused):
		asked.Hint = fmt.Sprintf("check the user, the password and what the user may do there, or log in again with 'podman login %s'", host)
	case errors.As(err, &page):
		asked.Hint = "open it in a browser: perhaps this network wants a login first; else check the address and https_proxy"
	case errors.Is(err, http.ErrSchemeMismatch):
		asked.Hint = "the server does not speak HTTPS; write oci+http:// or http:// if that is to be"
	}
	return &serverError{err, asked}
}

// parseFilters reads the FILTER arguments.
func parseFilters(args []string) ([]buildcache.Filter, error) {
	var filters []buildcache.Filter
	for _, arg := range args {
		f, err := buildcache.ParseFilter(arg)
		if err != nil {
			return nil, &usageError{err: err, hint: "see 'pdibuild cache buildcache --help' for what a FILTER is"}
		}
		filters = append(filters, f)
	}
	return filters, nil
}
