package buildcache

import (
	"errors"
	"fmt"
	"net"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/internal/registry"
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
type StatusError = registry.StatusError

// A RefusedError says that a registry does not let a user do something.
type RefusedError = registry.RefusedError

// A NoCredentialError says that a registry wants a user and a password, and
// that none were given.
type NoCredentialError = registry.NoCredentialError

// A WebPageError says that a web page came instead of a registry's answer.
type WebPageError = registry.WebPageError

// Remote says that err is a server's refusal, or that no server could be
// reached: it is not about what a cache holds, nor about this host. The host is
// the server's, where the error tells.
func Remote(err error) (host string, remote bool) {
	if errors.Is(err, ErrNotFound) {
		return "", false
	}
	if host, ok := registry.HostOf(err); ok {
		return host, true
	}
	var network net.Error
	return "", errors.As(err, &network)
}
