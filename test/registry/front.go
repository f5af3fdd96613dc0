package registry

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// FrontOptions say what stands in front of a registry. The zero value is an
// open door.
type FrontOptions struct {
	// User and Password are what tokens for pushing are given for; pulling
	// needs a token that everybody gets, as in public registries.
	User, Password string
	// RetryAfter is what answers of 429 say, in seconds; "" is nothing.
	RetryAfter string
	// Rate is how many bytes pass in a second, in each direction of each
	// connection; 0 is as many as can.
	Rate int
	// Behind are the options of the registry itself.
	Behind Options
	// TLS makes the front speak HTTPS, with a certificate that nobody knows;
	// see Authority.
	TLS bool
	// Ahead is how much the front's clock is ahead of this host's, as its
	// answers say.
	Ahead time.Duration
}

// A Front is a server in front of a real registry. It may ask for tokens, as
// large registries do, refuses what it is told to refuse, and remembers what it
// was asked for.
type Front struct {
	// Address is HOST:PORT.
	Address string
	// Behind is the address of the registry itself.
	Behind string
	// Authority is a directory for --cert-dir, in which the front's own
	// certificate is an authority. Only with TLS.
	Authority string

	opts    FrontOptions
	mu      sync.Mutex
	refuse  func(*http.Request) int
	answer  func(*http.Response)
	asked   []string
	tokens  map[string]bool // whether it may push
	forward http.Handler
}

// StartFront runs a registry behind a Front until the test ends.
func StartFront(t *testing.T, opts FrontOptions) *Front {
	t.Helper()
	behind := &url.URL{Scheme: "http", Host: Start(t, opts.Behind)}
	f := &Front{opts: opts, tokens: map[string]bool{}, Behind: behind.Host}
	f.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(behind)
			r.Out.Host = r.In.Host // the registry's redirections lead here
			r.SetXForwarded()
			r.Out.Body = slowly(r.Out.Body, opts.Rate)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = slowly(r.Body, opts.Rate)
			r.Header.Del("Date") // the front has its own
			f.mu.Lock()
			change := f.answer
			f.mu.Unlock()
			if change != nil {
				change(r)
			}
			return nil
		},
	}
	if !opts.TLS {
		server := httptest.NewServer(f)
		t.Cleanup(server.Close)
		f.Address = strings.TrimPrefix(server.URL, "http://")
		return f
	}
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	f.Address, f.Authority = strings.TrimPrefix(server.URL, "https://"), t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(f.Authority, "ca.crt"), authority, 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

// A slowBody is read at a rate of so many bytes in a second.
type slowBody struct {
	io.ReadCloser
	rate int
}

func slowly(body io.ReadCloser, rate int) io.ReadCloser {
	if body == nil || body == http.NoBody || rate == 0 {
		return body
	}
	return slowBody{body, rate}
}

func (b slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), max(1, b.rate/20))])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(b.rate))
	return n, err
}

// Refuse sets what is asked about each request from now on: the status of the
// answer, or 0 to let it through. Nil lets all through.
func (f *Front) Refuse(decide func(*http.Request) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = decide
}

// Change sets what is done to the registry's answers from now on; nil leaves
// them as they are.
func (f *Front) Change(answer func(*http.Response)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// Asked returns the requests since the last call, as "METHOD PATH?QUERY".
func (f *Front) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

// ServeHTTP answers a request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(f.opts.Ahead).UTC().Format(http.TimeFormat))
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
	status := 0
	if f.refuse != nil {
		status = f.refuse(r)
	}
	f.mu.Unlock()
	switch {
	case status != 0:
		if status == http.StatusTooManyRequests && f.opts.RetryAfter != "" {
			w.Header().Set("Retry-After", f.opts.RetryAfter)
		}
		http.Error(w, http.StatusText(status), status)
	case f.opts.User == "":
		f.forward.ServeHTTP(w, r)
	case r.URL.Path == "/token":
		f.giveToken(w, r)
	default:
		f.checkToken(w, r)
	}
}

// giveToken follows the token specification of the distribution project: a
// wrong password is refused, none gives a token that may only pull.
func (f *Front) giveToken(w http.ResponseWriter, r *http.Request) {
	user, password, given := r.BasicAuth()
	if given && (user != f.opts.User || password != f.opts.Password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.mu.Lock()
	token := fmt.Sprint("token-", len(f.tokens))
	f.tokens[token] = given
	f.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token}) // the client sees what is lacking
}

func (f *Front) checkToken(w http.ResponseWriter, r *http.Request) {
	push := r.Method != http.MethodGet && r.Method != http.MethodHead
	f.mu.Lock()
	mayPush, known := f.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	f.mu.Unlock()
	if known && (mayPush || !push) {
		r.Header.Del("Authorization")
		f.forward.ServeHTTP(w, r)
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:%s:pull,push"`, f.Address, name))
	w.WriteHeader(http.StatusUnauthorized)
}
