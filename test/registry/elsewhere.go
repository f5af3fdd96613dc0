package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// An Elsewhere is a server that a registry leads its clients to, such as the
// storage behind it, and that no login is meant for. It does what it is asked to,
// with a login of its own, and notes who has sent it one.
type Elsewhere struct {
	// Address is HOST:PORT, of the same host as all other servers of a test.
	Address string

	mu     sync.Mutex
	asked  []string
	logins []string
}

// StartElsewhere runs such a server for the registry at addr until the test
// ends. It is also a token server, at /token, which gives a token to everybody.
func StartElsewhere(t *testing.T, addr string, opts Options) *Elsewhere {
	t.Helper()
	e := &Elsewhere{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host // the upload goes on here
		r.Out.Header.Del("Authorization")
		if opts.User != "" {
			r.Out.SetBasicAuth(opts.User, opts.Password)
		}
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.asked = append(e.asked, r.Method+" "+r.URL.Path)
		if login := r.Header.Get("Authorization"); login != "" {
			e.logins = append(e.logins, r.Method+" "+r.URL.Path+": "+login)
		}
		e.mu.Unlock()
		if r.URL.Path == "/token" {
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "of-elsewhere"}) // the client sees what is lacking
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	e.Address = server.Listener.Addr().String()
	return e
}

// Seen returns the requests since the last call, as "METHOD PATH", and those of
// them that had a login, with it.
func (e *Elsewhere) Seen() (asked, logins []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked, logins = e.asked, e.logins
	e.asked, e.logins = nil, nil
	return asked, logins
}

// Uploads lets uploads go on at e, as the Change of a Front.
func (e *Elsewhere) Uploads(resp *http.Response) {
	location, err := resp.Location()
	if err == nil && strings.Contains(location.Path, "/uploads/") {
		location.Scheme, location.Host = "http", e.Address
		resp.Header.Set("Location", location.String())
	}
}

// Redirects answers requests for which want is true with a redirection to e, as
// the Change of a Front.
func (e *Elsewhere) Redirects(status int, want func(*http.Request) bool) func(*http.Response) {
	return func(resp *http.Response) {
		if resp.StatusCode >= http.StatusMultipleChoices || !want(resp.Request) {
			return
		}
		to := *resp.Request.URL
		to.Scheme, to.Host = "http", e.Address
		_ = resp.Body.Close()
		resp.Body, resp.ContentLength = http.NoBody, 0
		resp.StatusCode, resp.Status = status, http.StatusText(status)
		resp.Header = http.Header{"Location": {to.String()}, "Content-Length": {"0"}}
	}
}
