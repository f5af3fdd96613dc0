package imagetransfer

import (
	"context"
	"errors"
	"strings"

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/registry"
)

// Host is the HOST or HOST:PORT of a registry's name, which may have a
// scheme before it and a path behind it; "" if there is none.
func Host(name string) string {
	_, rest, scheme := strings.Cut(name, "://")
	if !scheme {
		rest = name
	}
	host, _, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(host, " \t\n?#@") {
		return ""
	}
	return host
}

// Ask asks a registry whether it is one, as a pull or push would: with
// the certificates, proxies and settings that these use. Credentials are not
// sent. A name that begins with http:// is asked without TLS, too.
func Ask(ctx context.Context, registries Registries, name string) error {
	c := &Client{Registries: registries}
	sys := c.SystemContext("")
	if strings.HasPrefix(name, "http://") {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	host := Host(name)
	if host == "" {
		return errors.New("it has no name")
	}
	found, err := sysregistriesv2.FindRegistry(sys, host)
	if err != nil {
		return err
	}
	opt := c.endpointOptions(sys, host, found != nil && found.Insecure)
	opt.Retries = 0
	_, err = registry.Connect(ctx, registry.Endpoint{Host: host, Options: opt})
	return err
}
