package imagetransfer

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/docker/distribution/registry/api/errcode"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/registry"
)

// A Front is the way of the containers/image library to a registry. The
// library sends a login to wherever a registry's answer leads, and has no hook
// for that; see registry.Front. The nil pointer is for images that are in no
// registry.
type Front struct{ *registry.Front }

// Through returns what the library has to know to reach the registry of
// ref through a front, which has to be closed. Say is told about requests that
// are repeated; may be nil.
func (c *Client) Through(ctx context.Context, sys *types.SystemContext, ref types.ImageReference, say func(string)) (*types.SystemContext, *Front, error) {
	if ref.Transport().Name() != docker.Transport.Name() {
		return sys, nil, nil
	}
	endpoints, err := c.Endpoints(sys, ref.DockerReference(), say)
	if err != nil {
		return nil, nil, err
	}
	front, err := registry.NewFront(ctx, endpoints...)
	if err != nil {
		return nil, nil, err
	}
	through := *sys
	through.DockerProxy = front.Proxy
	// It has no login, and reaches the front without TLS. What it reaches
	// without the front, servers of signatures, has to have a good certificate.
	through.DockerAuthConfig = &types.DockerAuthConfig{}
	through.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	through.BaseTLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if !endpoints[len(endpoints)-1].Options.Insecure {
		through.BaseTLSConfig.VerifyConnection = registry.VerifyConnection(through.DockerCertPath)
	}
	return &through, &Front{front}, nil
}

// Endpoints are the registry of an image, and before it those that
// registries.conf names as its mirrors.
func (c *Client) Endpoints(sys *types.SystemContext, named reference.Named, say func(string)) ([]registry.Endpoint, error) {
	found, err := sysregistriesv2.FindRegistry(sys, named.Name())
	if err != nil {
		return nil, err
	}
	own := sysregistriesv2.PullSource{Reference: named}
	sources := []sysregistriesv2.PullSource{own}
	if found != nil {
		own.Endpoint.Insecure = found.Insecure
		if sources, err = found.PullSourcesFromReference(named); err != nil {
			return nil, err
		}
		sources = append(sources, own) // pushes go to the name itself
	}
	var endpoints []registry.Endpoint
	for _, source := range sources {
		endpoints = append(endpoints, c.endpoint(sys, source, reference.Domain(named), say))
	}
	return endpoints, nil
}

func (c *Client) endpoint(sys *types.SystemContext, source sysregistriesv2.PullSource, main string, say func(string)) registry.Endpoint {
	host := reference.Domain(source.Reference)
	// The login that was given is for the registry that was named.
	e := registry.Endpoint{Host: host, Repository: reference.Path(source.Reference), Credentials: c.logins(sys, host == main)}
	e.Options = c.endpointOptions(sys, host, source.Endpoint.Insecure)
	e.Options.Report = say
	return e
}

// endpointOptions say how a registry is reached, which registries.conf may call
// insecure.
func (c *Client) endpointOptions(sys *types.SystemContext, host string, insecure bool) registry.Options {
	if sys.DockerInsecureSkipTLSVerify != types.OptionalBoolUndefined {
		insecure = sys.DockerInsecureSkipTLSVerify == types.OptionalBoolTrue
	}
	certDir := sys.DockerCertPath
	if certDir == "" {
		certDir = registry.CertDir(host)
	}
	return registry.Options{
		CertDir: certDir, Insecure: insecure, Proxy: http.ProxyFromEnvironment, Connections: registryConnections,
		Retries: registryRetries, UserAgent: sys.DockerRegistryUserAgent,
	}
}

const (
	// registryConnections are as many as the library uses side by side.
	registryConnections = 6
	registryRetries     = 4
)

// logins finds what the user has logged in with: what was given, if it is for
// this registry, then files, then the programs that registries.conf names.
func (c *Client) logins(sys *types.SystemContext, given bool) registry.CredentialFunc {
	r := c.Registries
	files := registry.AuthFiles(r.Files()...)
	return func(ctx context.Context, host, path string) (registry.Credential, error) {
		if given && r.Username != "" {
			return registry.Credential{Username: r.Username, Password: r.Password}, nil
		}
		found, err := files(ctx, host, path)
		if err != nil || found != (registry.Credential{}) {
			return found, err
		}
		helpers, err := sysregistriesv2.CredentialHelpers(sys)
		if err != nil {
			return found, err
		}
		for _, helper := range helpers {
			if helper == sysregistriesv2.AuthenticationFileHelper {
				continue
			}
			if found, err = registry.FromHelper(ctx, helper, host); err != nil || found != (registry.Credential{}) {
				return found, err
			}
		}
		return found, nil
	}
}

// Files are the files to look for logins in.
func (r Registries) Files() []string {
	switch {
	case r.AuthFile != "":
		return []string{r.AuthFile}
	case r.LoginFiles != nil:
		return r.LoginFiles
	}
	return registry.LoginFiles(os.Getenv) //nolint:forbidigo // what podman and docker read, for callers that name no files
}

// LoggedIn are the registries that there are logins for.
func (c *Client) LoggedIn() ([]string, error) {
	names := map[string]bool{}
	var errs []error
	for _, file := range c.Files() {
		sys := c.SystemContext("")
		sys.AuthFilePath = file
		found, err := config.GetAllCredentials(sys)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for name := range found {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), errors.Join(errs...)
}

// Close closes the front.
func (f *Front) Close() error {
	if f == nil {
		return nil
	}
	return f.Front.Close()
}

// Explain returns, for an error of the library that a registry has caused, what
// that registry has answered, or why it did not answer.
func (f *Front) Explain(err error) error {
	var (
		answer errcode.ErrorCoder
		login  docker.ErrUnauthorizedForCredentials
		status docker.UnexpectedHTTPStatusError
		failed *url.Error
	)
	switch {
	case f == nil || err == nil:
		return err
	case errors.As(err, &answer), errors.As(err, &login), errors.As(err, &status), errors.As(err, &failed), errors.Is(err, docker.ErrTooManyRequests):
	case strings.Contains(err.Error(), "StatusCode: "): // its type is not exported
	default:
		return err
	}
	if cause := f.Cause(); cause != nil {
		return &explainedError{cause, err}
	}
	return err
}

// An explainedError has the text of the cause alone, without what the library was
// doing.
type explainedError struct{ cause, library error }

func (e *explainedError) Error() string   { return e.cause.Error() }
func (e *explainedError) Unwrap() []error { return []error{e.cause, e.library} }
