package builder

import (
	"context"
	"errors"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
)

// RegistryHost is the HOST or HOST:PORT of a registry's name, which may have a
// scheme before it and a path behind it; "" if there is none.
func RegistryHost(name string) string {
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

// AskRegistry asks a registry whether it is one, as a pull or push would: with
// the certificates, proxies and settings that these use. Credentials are not
// sent. A name that begins with http:// is asked without TLS, too.
func AskRegistry(ctx context.Context, registries Registries, name string) error {
	b := &Builder{registries: registries}
	sys := b.systemContext("")
	if strings.HasPrefix(name, "http://") {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	host := RegistryHost(name)
	if host == "" {
		return errors.New("it has no name")
	}
	err := docker.CheckAuth(ctx, sys, "", "", host)
	var refused docker.ErrUnauthorizedForCredentials
	var token docker.UnexpectedHTTPStatusError
	if errors.As(err, &refused) || errors.As(err, &token) && token.StatusCode < 500 {
		return nil // who does not know us answers; so does a token server
	}
	return err
}
