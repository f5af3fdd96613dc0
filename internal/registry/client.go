package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// A Credential is what a server wants to know.
type Credential struct {
	Username, Password string
	// IdentityToken is what some registries give instead of a password.
	IdentityToken string
	// AccessToken is sent as it is, instead of all others.
	AccessToken string
}

// A CredentialFunc finds the credential for HOST[:PORT] and the path there, the
// repository's name. An empty one is no error: many registries can be read by
// everybody.
type CredentialFunc func(ctx context.Context, host, path string) (Credential, error)

// An Endpoint is a registry, and what it is asked for.
type Endpoint struct {
	// Host is HOST[:PORT], as the names of images have it.
	Host string
	// Repository is what the credential has to be for.
	Repository string
	// Credentials finds it; nil means that there are none.
	Credentials CredentialFunc
	Options     Options
}

// apiHost is where a registry really is: docker.io is a name for people.
func apiHost(host string) string {
	if host == "docker.io" || host == "index.docker.io" {
		return "registry-1.docker.io"
	}
	return host
}

// A Client sends requests to one registry, with the credential for it. It is a
// client of oras-go's remote.Repository.
type Client struct {
	endpoint Endpoint
	origin   *url.URL
	// auth is for the registry, other for all other servers.
	auth  *auth.Client
	other *http.Client
	// header is that of the registry's first answer.
	header http.Header
}

// NewClient returns a client for a registry that is known to speak TLS, or not
// to. Nothing is asked.
func NewClient(t *Transport, plain bool, e Endpoint) *Client {
	scheme := "https"
	if plain {
		scheme = "http"
	}
	c := &Client{endpoint: e, origin: &url.URL{Scheme: scheme, Host: apiHost(e.Host)}}
	c.other = &http.Client{Transport: &guard{base: t, client: c}}
	c.auth = &auth.Client{Client: c.other, Cache: auth.NewCache(), ClientID: "pdibuild"}
	c.auth.Credential = func(ctx context.Context, _ string) (auth.Credential, error) {
		found, err := c.credential(ctx)
		return auth.Credential{Username: found.Username, Password: found.Password, RefreshToken: found.IdentityToken, AccessToken: found.AccessToken}, err
	}
	return c
}

// Connect looks for a registry: with TLS, and without it if it may be insecure
// and does not know TLS. No credential is sent.
func Connect(ctx context.Context, e Endpoint) (*Client, error) {
	t, err := NewTransport(e.Options)
	if err != nil {
		return nil, err
	}
	c := NewClient(t, false, e)
	if !e.Options.Insecure {
		return c, c.ping(ctx)
	}
	// A server without TLS may cut the connection: that is no reason to wait.
	tlsErr := c.ping(Once(ctx))
	if tlsErr == nil {
		return c, nil
	}
	plain := NewClient(t, true, e)
	plainErr := plain.ping(Once(ctx))
	if plainErr == nil || speaksPlain(tlsErr) {
		c = plain
	}
	if plainErr == nil {
		return c, nil
	}
	return c, c.ping(ctx) // it may be down for a moment
}

// speaksPlain says that a server has shown that it knows no TLS.
func speaksPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record)
}

// ping asks whether there is a registry.
func (c *Client) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.origin.JoinPath("/v2/").String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.other.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	c.header = resp.Header
	if resp.StatusCode == http.StatusUnauthorized {
		return nil
	}
	return c.problem(ctx, resp)
}

// Plain says that the registry does not speak TLS.
func (c *Client) Plain() bool { return c.origin.Scheme == "http" }

// Do implements remote.Client. What the registry refuses for want of the right
// login is an error, and so is an answer that no registry gives.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	problem := c.problem(req.Context(), resp)
	var status *StatusError
	if problem == nil || errors.As(problem, &status) {
		return resp, nil // it is for who asked
	}
	_ = resp.Body.Close()
	return nil, problem
}

// Web sends a request to a server that is no registry, with the login that the
// request has, which goes nowhere else.
func (c *Client) Web(req *http.Request) (*http.Response, error) {
	resp, err := c.other.Do(req)
	if err != nil {
		return nil, err
	}
	if err := c.page(resp); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

// send sends a request: to the registry with the credential, to others without.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	if !sameOrigin(req.URL, c.origin) {
		return c.other.Do(req)
	}
	resp, err := c.auth.Do(req)
	if err == nil {
		return resp, nil
	}
	var (
		token *errcode.ErrorResponse
		cut   *url.Error
	)
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nil, &NoCredentialError{Host: c.endpoint.Host, Err: err}
	case errors.As(err, &token) && (token.StatusCode == http.StatusUnauthorized || token.StatusCode == http.StatusForbidden):
		return nil, c.refused(req.Context(), token.StatusCode, "", err)
	case errors.As(err, &token):
		return nil, fmt.Errorf("the token server of %s: %w", c.endpoint.Host, token)
	case errors.As(err, &cut) && strings.Contains(cut.URL, tokenPath):
		return nil, fmt.Errorf("the token server of %s: %w", c.endpoint.Host, cut.Err)
	}
	return nil, err
}

// problem says what is wrong with an answer; nil if nothing is. The body stays
// readable.
func (c *Client) problem(ctx context.Context, resp *http.Response) error {
	if resp.StatusCode < http.StatusMultipleChoices {
		return c.page(resp)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	errs, message := said(resp)
	status := &StatusError{Method: resp.Request.Method, URL: resp.Request.URL.Redacted(), Status: resp.StatusCode, Message: message}
	denied := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
	if !denied || !sameOrigin(resp.Request.URL, c.origin) {
		return status
	}
	err := &errcode.ErrorResponse{Method: resp.Request.Method, URL: resp.Request.URL, StatusCode: resp.StatusCode, Errors: errs}
	if resp.StatusCode == http.StatusUnauthorized && c.user(ctx) == "" {
		return &NoCredentialError{Host: c.endpoint.Host, Err: err}
	}
	return c.refused(ctx, resp.StatusCode, reason(message), err)
}

// page says that a good answer is a web page.
func (c *Client) page(resp *http.Response) error {
	if resp.StatusCode >= http.StatusMultipleChoices || !isHTML(resp) || !isPage(peek(resp, 512)) {
		return nil
	}
	return &WebPageError{Host: c.endpoint.Host, Page: resp.Request.URL.Redacted()}
}

func (c *Client) refused(ctx context.Context, status int, message string, err error) error {
	return &RefusedError{Host: c.endpoint.Host, User: c.user(ctx), Status: status, Message: message, Err: err}
}

func (c *Client) credential(ctx context.Context) (Credential, error) {
	if c.endpoint.Credentials == nil {
		return Credential{}, nil
	}
	found, err := c.endpoint.Credentials(ctx, c.endpoint.Host, c.endpoint.Repository)
	if err != nil {
		return found, fmt.Errorf("find the login for %s: %w", c.endpoint.Host, err)
	}
	return found, nil
}

// user is who the credential is of; empty if there is none.
func (c *Client) user(ctx context.Context) string {
	found, err := c.credential(ctx)
	switch {
	case err != nil || found == Credential{}:
		return ""
	case found.Username == "":
		return "of the token"
	}
	return found.Username
}
