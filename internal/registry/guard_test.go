package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A recorder is a server that notes the logins which it gets.
type recorder struct {
	*httptest.Server
	mu     sync.Mutex
	logins []string
	asked  int
}

// record starts a server. It answers what answer does not with 200.
func record(t *testing.T, withTLS bool, answer func(w http.ResponseWriter, r *http.Request) bool) *recorder {
	t.Helper()
	rec := &recorder{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.asked++
		if login := r.Header.Get("Authorization"); login != "" {
			rec.logins = append(rec.logins, r.Method+" "+r.URL.Path+": "+login)
		}
		for _, secret := range []string{"s3cret", "refresh-it"} {
			if strings.Contains(string(body)+r.URL.RawQuery, secret) {
				rec.logins = append(rec.logins, r.Method+" "+r.URL.Path+": "+string(body)+r.URL.RawQuery)
			}
		}
		rec.mu.Unlock()
		if answer == nil || !answer(w, r) {
			_, _ = io.WriteString(w, "content")
		}
	})
	if withTLS {
		rec.Server = httptest.NewTLSServer(handler)
	} else {
		rec.Server = httptest.NewServer(handler)
	}
	t.Cleanup(rec.Close)
	return rec
}

func (rec *recorder) seen() (asked int, logins []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	asked, logins = rec.asked, rec.logins
	rec.asked, rec.logins = 0, nil
	return asked, logins
}

var basicLogin = "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:s3cret"))

// basic answers what has no login.
func basic(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") == basicLogin {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

func login(context.Context, string, string) (Credential, error) {
	return Credential{Username: "ann", Password: "s3cret"}, nil
}

// clientOf has a login for a server and accepts its certificate, if it has one.
func clientOf(t *testing.T, server *recorder, change func(*Endpoint)) *Client {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := Endpoint{Host: u.Host, Repository: "a/b", Credentials: login, Options: Options{RetryWait: time.Millisecond}}
	if change != nil {
		change(&e)
	}
	transport, err := NewTransport(e.Options)
	if err != nil {
		t.Fatal(err)
	}
	if server.TLS != nil {
		transport.base.(*http.Transport).TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	return NewClient(transport, u.Scheme == "http", e)
}

func ask(t *testing.T, c *Client, method, address string, body []byte) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// A redirection to another port of the same host keeps the login in net/http,
// and so does one to a host below it.
func TestRedirectionLosesTheLogin(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch} {
			t.Run(fmt.Sprint(status, " ", method), func(t *testing.T) {
				elsewhere := record(t, false, func(w http.ResponseWriter, r *http.Request) bool {
					// The second one is within the same server.
					if r.URL.Path == "/first" {
						http.Redirect(w, r, "/second", status)
						return true
					}
					return false
				})
				own := record(t, false, func(w http.ResponseWriter, r *http.Request) bool {
					if !basic(w, r) {
						http.Redirect(w, r, elsewhere.URL+"/first", status)
					}
					return true
				})
				c := clientOf(t, own, nil)
				if _, err := ask(t, c, method, own.URL+"/v2/a/b/blobs/x", []byte("a blob")); err != nil {
					t.Error(err)
				}
				if asked, logins := elsewhere.seen(); asked != 2 || len(logins) > 0 {
					t.Errorf("the other server was asked %d times, with %q", asked, logins)
				}
				if _, logins := own.seen(); len(logins) == 0 {
					t.Error("the registry got no login")
				}
			})
		}
	}
}

// A scheme is a part of an origin.
func TestLoginIsNotSentWithoutTLS(t *testing.T) {
	plain := record(t, false, nil)
	own := record(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if !basic(w, r) {
			http.Redirect(w, r, plain.URL+"/blob", http.StatusTemporaryRedirect)
		}
		return true
	})
	c := clientOf(t, own, nil)
	if _, err := ask(t, c, http.MethodGet, own.URL+"/v2/a/b/blobs/x", nil); err != nil {
		t.Error(err)
	}
	if asked, logins := plain.seen(); asked != 1 || len(logins) > 0 {
		t.Errorf("the other server was asked %d times, with %q", asked, logins)
	}
}

// Where an upload goes on is said by the registry. Another server gets the
// blob, and no login even if it asks for one.
func TestLocationElsewhereGetsNoLogin(t *testing.T) {
	for name, demand := range map[string]string{"takes all": "", "wants a password": `Basic realm="x"`, "wants a token": `Bearer realm="REALM",service="x"`} {
		t.Run(name, func(t *testing.T) {
			var elsewhere *recorder
			elsewhere = record(t, false, func(w http.ResponseWriter, r *http.Request) bool {
				if demand == "" || r.URL.Path == "/token" {
					return false
				}
				w.Header().Set("WWW-Authenticate", strings.Replace(demand, "REALM", elsewhere.URL+"/token", 1))
				w.WriteHeader(http.StatusUnauthorized)
				return true
			})
			own := record(t, false, basic)
			c := clientOf(t, own, nil)
			if _, err := ask(t, c, http.MethodPost, own.URL+"/v2/a/b/blobs/uploads/", nil); err != nil {
				t.Fatal(err)
			}
			for _, method := range []string{http.MethodPatch, http.MethodPut, http.MethodDelete} {
				resp, err := ask(t, c, method, elsewhere.URL+"/upload", []byte("a blob"))
				if err != nil {
					t.Errorf("%s: %v", method, err)
				} else if want := map[bool]int{true: 200, false: 401}[demand == ""]; resp.StatusCode != want {
					t.Errorf("%s: status %d, want %d", method, resp.StatusCode, want)
				}
			}
			if asked, logins := elsewhere.seen(); asked != 3 || len(logins) > 0 {
				t.Errorf("the other server was asked %d times, with %q", asked, logins)
			}
		})
	}
}

// tokens gives a token to who has the login, as a token server.
func tokens(t *testing.T, withTLS bool) *recorder {
	return record(t, withTLS, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != basicLogin && r.Method == http.MethodGet {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": "the-token", "access_token": "the-token"})
		return true
	})
}

// wantsToken is a registry that sends clients to a token server.
func wantsToken(t *testing.T, withTLS bool, challenges ...string) *recorder {
	return record(t, withTLS, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer the-token" {
			return false
		}
		w.Header()["Www-Authenticate"] = challenges
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

// A token server may be anywhere, as those of Docker Hub and GitLab are; the
// login is sent to it over TLS, or as the registry itself is reached.
func TestTokenServer(t *testing.T) {
	for _, test := range []struct {
		name             string
		registry, tokens bool // with TLS
		insecure         bool
		refused          bool
	}{
		{name: "both with TLS", registry: true, tokens: true},
		{name: "without TLS", registry: true, refused: true},
		{name: "without TLS, which is allowed", registry: true, insecure: true},
		{name: "both without TLS"},
		{name: "a registry without TLS", tokens: true, insecure: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := tokens(t, test.tokens)
			own := wantsToken(t, test.registry, "Negotiate", `Bearer realm="`+server.URL+`/token?x=1",service="s",scope="repository:a/b:pull"`)
			c := clientOf(t, own, func(e *Endpoint) { e.Options.Insecure = test.insecure })
			resp, err := ask(t, c, http.MethodGet, own.URL+"/v2/a/b/manifests/1", nil)
			asked, logins := server.seen()
			var realm *RealmError
			switch {
			case test.refused && (!errors.As(err, &realm) || asked > 0 || len(logins) > 0):
				t.Errorf("error %v, the token server was asked %d times, with %q", err, asked, logins)
			case !test.refused && (err != nil || resp.StatusCode != http.StatusOK):
				t.Errorf("error %v", err)
			case !test.refused && (len(logins) != 1 || logins[0] != "GET /token: "+basicLogin):
				t.Errorf("the token server got %q", logins)
			}
			_, logins = own.seen()
			for _, l := range logins {
				if !strings.HasSuffix(l, "Bearer the-token") {
					t.Errorf("the registry got %q", l)
				}
			}
		})
	}
}

// A token server that leads elsewhere takes no login there: neither a password
// nor the token of an OAuth2 login, which is in a request's body.
func TestTokenServerThatLeadsElsewhere(t *testing.T) {
	for name, credential := range map[string]Credential{"password": {Username: "ann", Password: "s3cret"}, "OAuth2": {IdentityToken: "refresh-it"}} {
		for _, status := range []int{302, 307} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				elsewhere := record(t, false, nil)
				server := record(t, false, func(w http.ResponseWriter, r *http.Request) bool {
					http.Redirect(w, r, elsewhere.URL+"/take", status)
					return true
				})
				own := wantsToken(t, false, `Bearer realm="`+server.URL+`/token",service="s"`)
				c := clientOf(t, own, func(e *Endpoint) {
					e.Credentials = func(context.Context, string, string) (Credential, error) { return credential, nil }
				})
				if _, err := ask(t, c, http.MethodGet, own.URL+"/v2/a/b/manifests/1", nil); err == nil {
					t.Error("no error")
				}
				if _, logins := server.seen(); len(logins) != 1 {
					t.Errorf("the token server got %q", logins)
				}
				if _, logins := elsewhere.seen(); len(logins) > 0 {
					t.Errorf("the other server got %q", logins)
				}
			})
		}
	}
}

// What stands for the token server inside of this program means nothing when a
// registry names it.
func TestNobodyElseReachesTheTokenServer(t *testing.T) {
	server := tokens(t, false)
	own := wantsToken(t, false, `Bearer realm="`+server.URL+`/token",service="s"`)
	c := clientOf(t, own, nil)
	if _, err := ask(t, c, http.MethodPatch, own.URL+"/token-server-GUESSED", []byte("x")); err != nil {
		t.Fatal(err)
	}
	server.seen()
	// No token server is known yet.
	other := record(t, false, nil)
	if _, err := ask(t, clientOf(t, other, nil), http.MethodGet, other.URL+tokenPath, nil); err != nil {
		t.Error(err)
	}
	if asked, _ := server.seen(); asked > 0 {
		t.Error("the token server was asked")
	}
}

func TestRefusals(t *testing.T) {
	none := func(context.Context, string, string) (Credential, error) { return Credential{}, nil }
	own := record(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/v2/page":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "\n<!DOCTYPE html><title>log in</title>")
		case "/v2/quay": // a registry that calls its answers HTML
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "true")
		case "/v2/forbidden":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"this is archived"}]}`)
		case "/v2/gone":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}`)
		}
		return true
	})
	host := own.Listener.Addr().String()
	for _, test := range []struct {
		path        string
		credentials CredentialFunc
		want        string
	}{
		{"/v2/secret", login, host + " refused the user ann (401)"},
		{"/v2/secret", none, host + " wants a user and a password, and none were given for it"},
		{"/v2/secret", nil, host + " wants a user and a password, and none were given for it"},
		{"/v2/forbidden", login, host + " refused the user ann (403): this is archived"},
		{"/v2/forbidden", none, host + " refused (403): this is archived"},
		{"/v2/page", login, host + " answered with a web page (" + own.URL + "/v2/page) instead of as a registry"},
		{"/v2/quay", login, ""},
		{"/v2/gone", login, ""},
	} {
		c := clientOf(t, own, func(e *Endpoint) { e.Credentials = test.credentials })
		_, err := ask(t, c, http.MethodGet, own.URL+test.path, nil)
		if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && got != test.want {
			t.Errorf("%s: error is %q, want %q", test.path, got, test.want)
		}
		if named, ok := HostOf(err); err != nil && (!ok || named != host) {
			t.Errorf("%s: the error is of %q", test.path, named)
		}
	}
}

// A wrong password is told as one, whoever refuses it.
func TestTokenServerRefuses(t *testing.T) {
	server := tokens(t, false)
	own := wantsToken(t, false, `Bearer realm="`+server.URL+`/token",service="s"`)
	c := clientOf(t, own, func(e *Endpoint) {
		e.Credentials = func(context.Context, string, string) (Credential, error) {
			return Credential{Username: "ann", Password: "wrong"}, nil
		}
	})
	_, err := ask(t, c, http.MethodGet, own.URL+"/v2/a/b/manifests/1", nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.User != "ann" || refused.Host != own.Listener.Addr().String() {
		t.Errorf("error %v", err)
	}
	server.Close()
	_, err = ask(t, c, http.MethodGet, own.URL+"/v2/a/b/manifests/1", nil)
	if err == nil || strings.Contains(err.Error(), tokenPath) || !strings.Contains(err.Error(), "the token server of") {
		t.Errorf("error %v", err)
	}
}

// A stream that is cut can't be sent again by the transport: its sender learns
// why it ended.
func TestCutStreamIsAnError(t *testing.T) {
	own := record(t, false, nil)
	own.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := clientOf(t, own, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, own.URL+"/v2/a/b/blobs/uploads/x", struct{ io.Reader }{strings.NewReader("a stream")})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if err == nil || strings.Contains(err.Error(), "RoundTripper") || !IsTemporary(err) {
		t.Errorf("error %v", err)
	}
}
