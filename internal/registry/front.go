package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// A Front sends the requests of a library that has an HTTP client of its own
// through the Clients of this package. The library uses it as its proxy, without
// TLS, and gets to know no credential: it believes that the registries are open
// to everybody and speak plain HTTP. The Front is a server on the loopback
// interface which answers nobody but the holder of Proxy.
type Front struct {
	endpoints map[string]*frontEndpoint // by the host of their API
	server    *http.Server
	address   *url.URL
	key       string
	forward   *httputil.ReverseProxy
	// running counts the server and the requests that it answers.
	running sync.WaitGroup
	stop    context.CancelFunc

	mu sync.Mutex
	// outside are other servers that a registry has named.
	outside map[string]*outsider
	cause   error
}

// An outsider is a server that gets no credential.
type outsider struct {
	scheme string
	client *http.Client
}

// A frontEndpoint is connected when it is needed.
type frontEndpoint struct {
	Endpoint
	mu     sync.Mutex
	client *Client
}

// NewFront starts a Front for some registries. Close it.
func NewFront(ctx context.Context, endpoints ...Endpoint) (*Front, error) {
	f := &Front{endpoints: map[string]*frontEndpoint{}, outside: map[string]*outsider{}, key: rand.Text()}
	for _, e := range endpoints {
		f.endpoints[apiHost(e.Host)] = &frontEndpoint{Endpoint: e}
	}
	f.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host, r.Out.RequestURI = "", ""
			r.Out.Header.Del("Accept-Encoding") // it is between us and the server
		},
		Transport:    roundTripper(f.send),
		ErrorHandler: f.fail,
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		if listener, err = net.Listen("tcp", "[::1]:0"); err != nil { //nolint:noctx // as above
			return nil, fmt.Errorf("open the way to the registry: %w", err)
		}
	}
	f.address = &url.URL{Scheme: "http", Host: listener.Addr().String(), User: url.UserPassword("pdibuild", f.key)}
	// It lives until Close: an image may be opened by a request that ends before
	// its layers are read.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	f.server = &http.Server{
		Handler: f, ReadHeaderTimeout: time.Minute, ErrorLog: f.forward.ErrorLog,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	f.running.Go(func() { _ = f.server.Serve(listener) }) // until Close
	return f, nil
}

// Close ends all requests.
func (f *Front) Close() error {
	f.stop()
	err := f.server.Close()
	f.running.Wait()
	for _, e := range f.endpoints {
		if e.client != nil {
			e.client.other.CloseIdleConnections()
		}
	}
	return err
}

var errOverFront = errors.New("this registry is reached in another way")

// Proxy is the library's function that chooses a proxy. Where the library tries
// TLS with a registry it fails at once, and has to try without.
func (f *Front) Proxy(u *url.URL) (*url.URL, error) {
	switch {
	case u.Scheme == "http":
		return f.address, nil
	case f.endpoints[u.Host] != nil:
		return nil, errOverFront
	}
	// Nothing but what a host's settings name, such as a server of signatures.
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// Cause returns what a registry has answered, or why it did not, before the
// library failed: the library's own error may be only a part of that. Nil if
// nothing went wrong.
func (f *Front) Cause() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause
}

func (f *Front) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cause = err
}

// ServeHTTP answers the library.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.running.Add(1)
	defer f.running.Done()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("pdibuild:"+f.key))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect || !r.URL.IsAbs() {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	e := f.endpoints[r.URL.Host]
	if e == nil || r.Method != http.MethodGet || r.URL.Path != "/v2/" {
		f.forward.ServeHTTP(w, r)
		return
	}
	client, err := e.connect(r.Context())
	if err != nil {
		f.fail(w, r, err)
		return
	}
	for name, values := range client.header {
		if strings.HasPrefix(name, "X-") || strings.HasPrefix(name, "Docker-") {
			w.Header()[name] = values
		}
	}
}

// connect connects, once. A registry that could not be reached is tried again.
func (e *frontEndpoint) connect(ctx context.Context) (*Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	client, err := Connect(ctx, e.Endpoint)
	if err == nil {
		e.client = client
	}
	return client, err
}

// send sends a request to where it really goes.
func (f *Front) send(req *http.Request) (*http.Response, error) {
	e := f.endpoints[req.URL.Host]
	if e == nil {
		return f.sendOutside(req)
	}
	client, err := e.connect(req.Context())
	if err != nil {
		return nil, err
	}
	if err := buffer(req); err != nil {
		return nil, err
	}
	req.URL.Scheme, req.URL.Host = client.origin.Scheme, client.origin.Host
	ctx := withScopes(req.Context(), req, client.origin.Host)
	if isPartOfUpload(req) {
		ctx = Once(ctx)
	}
	resp, err := client.send(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return resp, f.adapt(ctx, client, resp)
}

// isPartOfUpload says that a request can't be repeated alone.
func isPartOfUpload(req *http.Request) bool {
	return strings.Contains(req.URL.Path, "/blobs/uploads/") && req.Method != http.MethodPost
}

// sendOutside sends a request to a server that a registry, or the settings of
// this host, have named.
func (f *Front) sendOutside(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	to := f.outside[req.URL.Host]
	f.mu.Unlock()
	if to == nil {
		to = &outsider{req.URL.Scheme, http.DefaultClient}
	}
	req.URL.Scheme = to.scheme
	return to.client.Do(req)
}

// maxBuffered is how large a manifest may be. What is larger is a blob.
const maxBuffered = 8 << 20

// buffer makes a manifest something that can be sent twice, which is needed
// where a registry wants a login first.
func buffer(req *http.Request) error {
	if req.Method != http.MethodPut || !strings.Contains(req.URL.Path, "/manifests/") || req.ContentLength <= 0 || req.ContentLength > maxBuffered {
		return nil
	}
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	req.Body, err = req.GetBody()
	return err
}

// withScopes says what a token is needed for, so that one is got for all
// requests about a repository. A registry adds what it wants.
func withScopes(ctx context.Context, req *http.Request, host string) context.Context {
	name, rest := repositoryOf(req.URL.Path)
	if name == "" {
		return ctx
	}
	actions := []string{auth.ActionPull}
	if strings.HasPrefix(rest, "blobs/uploads/") || req.Method == http.MethodPut {
		actions = append(actions, auth.ActionPush)
	}
	ctx = auth.AppendScopesForHost(ctx, host, auth.ScopeRepository(name, actions...))
	if from := req.URL.Query().Get("from"); from != "" {
		ctx = auth.AppendScopesForHost(ctx, host, auth.ScopeRepository(from, auth.ActionPull))
	}
	return ctx
}

// repositoryOf takes /v2/NAME/{blobs,manifests,…}/… apart.
func repositoryOf(path string) (name, rest string) {
	path, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", ""
	}
	for _, part := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
		if i := strings.LastIndex(path, part); i > 0 {
			return path[:i], path[i+1:]
		}
	}
	return "", ""
}

// adapt makes an answer one that the library understands.
func (f *Front) adapt(ctx context.Context, from *Client, resp *http.Response) error {
	err := from.problem(ctx, resp)
	var page *WebPageError
	if errors.As(err, &page) {
		return errors.Join(err, resp.Body.Close())
	}
	notThere := resp.StatusCode == http.StatusNotFound && resp.Request.Method == http.MethodHead
	if err != nil && !notThere {
		f.note(err)
	}
	resp.Header.Del("Www-Authenticate")
	if resp.Header.Get("Location") == "" {
		return nil
	}
	location, err := resp.Location()
	if err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	resp.Header.Set("Location", f.outward(location, from).String())
	return nil
}

// outward is an address as the library has to use it: without TLS, so that its
// request comes here.
func (f *Front) outward(to *url.URL, from *Client) *url.URL {
	out := *to
	out.Scheme = "http"
	if sameOrigin(to, from.origin) {
		out.Host = from.origin.Host
		return &out
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outside[to.Host] = &outsider{to.Scheme, from.other}
	return &out
}

// fail answers where a registry did not. A connection that was cut is cut for
// the library, too, which then sends what it knows to send again.
func (f *Front) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the library gave up
	}
	f.note(err)
	if IsTemporary(err) && (r.Body != http.NoBody || isPartOfUpload(r)) {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	// The library does not try again what is denied, and understands this
	// status without the body, which the answer to HEAD does not have.
	w.WriteHeader(http.StatusUnauthorized)
	answer := map[string]any{"errors": []map[string]string{{"code": "DENIED", "message": err.Error()}}}
	_ = json.NewEncoder(w).Encode(answer) // the library sees that the answer is cut
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }
