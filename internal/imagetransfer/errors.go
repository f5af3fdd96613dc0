package imagetransfer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	distribution "github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	"oras.land/oras-go/v2/errdef"

	"github.com/pdidev/pdibuild/internal/registry"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// Error explains why a registry did not do what was asked of it.
func Error(op, name string, err error) error {
	e := &failure.RegistryError{Op: op, Image: name, Err: err}
	registryHint(e)
	var missing *registry.NoCredentialError
	if op != "push" && errors.As(err, &missing) {
		e.Hint += "; registries answer the same when there is no such image"
	}
	return e
}

// registryHint sets the way out, where one is known.
func registryHint(e *failure.RegistryError) {
	err := e.Err
	var (
		refused     *registry.RefusedError
		missing     *registry.NoCredentialError
		page        *registry.WebPageError
		realm       *registry.RealmError
		unknown     docker.ErrUnauthorizedForCredentials
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		network     net.Error
	)
	switch {
	case errors.As(err, &refused) && refused.User != "":
		e.Hint = fmt.Sprintf("check the user, the password and what the user may do there, or log in again with 'podman login %s'", refused.Host)
	case errors.As(err, &refused):
		loginHint(e, refused.Host)
	case errors.As(err, &missing):
		loginHint(e, missing.Host)
	case errors.As(err, &unknown):
		loginHint(e, "REGISTRY")
	case errors.As(err, &page):
		e.Hint = "open it in a browser: perhaps this network wants a login first; else check the registry's name and https_proxy"
	case errors.As(err, &realm):
		e.Hint, e.Code = "the registry's token server needs https", failure.PlainTokenServer
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Hint, e.Code = "this registry speaks plain HTTP: allow it", failure.PlainRegistry
	case errors.As(err, &certificate), errors.As(err, &authority):
		e.Hint, e.Code = "give the registry's certificate, or allow unknown ones", failure.UnknownCertificate
	case IsNotFound(err):
		e.Hint = "check the image's name and tag"
	case errors.As(err, &network):
		e.Hint = "the registry cannot be reached from here; finished steps are kept, run the command again later"
	}
}

func loginHint(e *failure.RegistryError, host string) {
	e.Hint, e.Code, e.Data = fmt.Sprintf("log in with 'podman login %s'", host), failure.LoginNeeded, failure.Data{"host": host}
}

// IsNotFound reports whether err means that a registry lacks what was asked for.
func IsNotFound(err error) bool {
	var status *registry.StatusError
	if errors.Is(err, errdef.ErrNotFound) || errors.As(err, &status) && status.Status == http.StatusNotFound {
		return true
	}
	var answer distribution.ErrorCoder
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.ErrorCode()
	return code == v2.ErrorCodeManifestUnknown || code == v2.ErrorCodeNameUnknown || code == v2.ErrorCodeBlobUnknown
}
