package builder

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
)

// registryError explains why a registry did not do what was asked of it.
func registryError(op, name string, err error) error {
	e := &RegistryError{Op: op, Image: name, Err: err, Hint: registryHint(err)}
	var nobody *registry.NoCredentialError
	if op != "push" && errors.As(err, &nobody) {
		e.Hint += "; registries answer the same when there is no such image"
	}
	return e
}

// registryHint is the way out, where one is known.
func registryHint(err error) string {
	var (
		refused     *registry.RefusedError
		nobody      *registry.NoCredentialError
		page        *registry.WebPageError
		realm       *registry.RealmError
		unknown     docker.ErrUnauthorizedForCredentials
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		network     net.Error
	)
	switch {
	case errors.As(err, &refused) && refused.User != "":
		return fmt.Sprintf("check the user, the password and what the user may do there, or log in again with 'podman login %s'", refused.Host)
	case errors.As(err, &refused):
		return loginHint(refused.Host)
	case errors.As(err, &nobody):
		return loginHint(nobody.Host)
	case errors.As(err, &unknown):
		return loginHint("REGISTRY")
	case errors.As(err, &page):
		return "open it in a browser: perhaps this network wants a login first; else check the registry's name and https_proxy"
	case errors.As(err, &realm):
		return "the registry's token server needs https; --tls-verify=false sends the login without TLS"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "this registry speaks plain HTTP: add --tls-verify=false"
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "give the registry's certificate with --cert-dir DIR, or add --tls-verify=false"
	case isNotFound(err):
		return "check the image's name and tag"
	case errors.As(err, &network):
		return "the registry cannot be reached from here; finished steps are kept, run the command again later"
	}
	return ""
}

func loginHint(host string) string {
	return fmt.Sprintf("log in with 'podman login %s' or give --creds USER:PASSWORD or --authfile FILE", host)
}

// isNotFound says that a registry does not have what was asked for.
func isNotFound(err error) bool {
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
