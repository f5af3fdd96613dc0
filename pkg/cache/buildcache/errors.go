package buildcache

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that a cache, a package or a blob does not exist.
	ErrNotFound = errors.New("not found")
	// ErrReadOnly says that a cache of this kind can't be written to.
	ErrReadOnly = errors.New("this cache is read only")
	// ErrNoListing says that a cache without an index can't say what it
	// holds: a web server does not list its files.
	ErrNoListing = errors.New("the cache has no index, and its server does not list files")
)

// A DamageError says that a cache holds something else than it should.
type DamageError struct {
	// Object is what is damaged: a blob's digest, or a manifest's path or tag.
	Object string
	// Reason says what is wrong with it.
	Reason string
}

func (e *DamageError) Error() string { return e.Object + ": " + e.Reason }

func damaged(object, format string, args ...any) error {
	return &DamageError{Object: object, Reason: fmt.Sprintf(format, args...)}
}

// A BlobError says which blob could not be read or written.
type BlobError struct {
	Digest digest.Digest
	Err    error
}

func (e *BlobError) Error() string { return fmt.Sprintf("blob %s: %v", e.Digest, e.Err) }
func (e *BlobError) Unwrap() error { return e.Err }

// blobError says which blob err is about, unless it says so itself.
func blobError(d digest.Digest, err error) error {
	var known *BlobError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &BlobError{d, err}
}

// A PackageError says which package could not be dealt with.
type PackageError struct {
	// Package is NAME@VERSION/HASH, the hash shortened.
	Package string
	Err     error
}

func (e *PackageError) Error() string { return e.Package + ": " + e.Err.Error() }
func (e *PackageError) Unwrap() error { return e.Err }

// A StatusError is a server's refusal.
type StatusError struct {
	Method, URL string
	Status      int
	// Message is what the server said, if it did.
	Message string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s: status %d", e.Method, e.URL, e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// A NoCredentialError says that a registry asks who is there, and that nobody
// has told.
type NoCredentialError struct{ Host string }

func (e *NoCredentialError) Error() string {
	return e.Host + " wants a user and a password, and none were given for it"
}

// Remote says that err is a server's refusal, or that no server could be
// reached: it is not about what a cache holds, nor about this host. The host is
// the server's, where the error tells.
func Remote(err error) (host string, remote bool) {
	var (
		status   *StatusError
		response *errcode.ErrorResponse
		request  *url.Error
		network  net.Error
		nobody   *NoCredentialError
	)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", false
	case errors.As(err, &nobody):
		return nobody.Host, true
	case errors.As(err, &status):
		return hostOf(status.URL), true
	case errors.As(err, &response):
		return response.URL.Host, true
	case errors.As(err, &request):
		return hostOf(request.URL), true
	}
	return "", errors.As(err, &network)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
