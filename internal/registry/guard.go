package registry

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// A guard is the one place where it is decided which server gets a credential.
// Every request of a Client passes it, whoever made it: oras-go's client, or
// net/http when it follows a redirection, which keeps a credential for another
// port and another scheme of the same host, and for all hosts below it.
//
// A credential goes to the client's origin: the scheme, host and port that the
// user gave it for. Any other request loses it. One exception is in the
// protocol: the token server (realm) that the origin names gets it, over TLS
// only, unless the origin itself does without or may do without.
type guard struct {
	base   *Transport
	client *Client

	mu sync.Mutex
	// realm is the address of the token server.
	realm *url.URL
}

// tokenPath stands for the token server, which may be anywhere, in what
// oras-go's client gets to see: it believes that the server is the registry,
// and only the guard sends requests elsewhere. It refuses some servers by
// itself, such as all with an address of a private network. No registry can
// guess the path and so have other requests sent there.
var tokenPath = "/token-server-" + rand.Text()

var errTokenMoved = errors.New("the token server leads elsewhere: a login is not sent there")

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := g.client.origin
	own, redirected := sameOrigin(req.URL, origin), req.Response != nil
	_, login := req.Header["Authorization"]
	form := req.Header.Get("Content-Type") == "application/x-www-form-urlencoded" // a login of OAuth2
	g.mu.Lock()
	realm := g.realm
	g.mu.Unlock()
	switch {
	case own && !redirected && req.URL.Path == tokenPath && realm != nil:
		return g.askTokenServer(req, *realm)
	case form:
		return nil, errTokenMoved
	case login && !own:
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
	}
	resp, err := g.base.RoundTrip(req)
	if err == nil && own && resp.StatusCode == http.StatusUnauthorized {
		if err := g.readChallenge(resp); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	return resp, err
}

// CloseIdleConnections is for http.Client, which closes none without it.
func (g *guard) CloseIdleConnections() { g.base.CloseIdleConnections() }

// askTokenServer sends a request for a token where it belongs.
func (g *guard) askTokenServer(req *http.Request, to url.URL) (*http.Response, error) {
	query := to.Query()
	for name, values := range req.URL.Query() {
		query[name] = values
	}
	to.RawQuery = query.Encode()
	req = req.Clone(req.Context())
	req.URL, req.Host = &to, ""
	resp, err := g.base.RoundTrip(req)
	if err != nil || resp.Header.Get("Location") == "" {
		return resp, err
	}
	// net/http would take it as relative to the registry.
	location, err := resp.Location()
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	resp.Header.Set("Location", location.String())
	return resp, nil
}

var realmPattern = regexp.MustCompile(`(?i)\brealm="([^"]*)"`)

// readChallenge chooses among the ways in which a registry wants to be logged
// in to, and learns where its token server is.
func (g *guard) readChallenge(resp *http.Response) error {
	for _, challenge := range resp.Header.Values("Www-Authenticate") {
		scheme, _, _ := strings.Cut(challenge, " ")
		switch strings.ToLower(scheme) {
		case "basic":
			resp.Header.Set("Www-Authenticate", challenge)
			return nil
		case "bearer":
			at := realmPattern.FindStringSubmatchIndex(challenge)
			if at == nil {
				continue
			}
			if err := g.setRealm(resp.Request.URL, challenge[at[2]:at[3]]); err != nil {
				return err
			}
			resp.Header.Set("Www-Authenticate", challenge[:at[2]]+g.client.origin.JoinPath(tokenPath).String()+challenge[at[3]:])
			return nil
		}
	}
	return nil
}

// setRealm notes where tokens are, if a login may be sent there.
func (g *guard) setRealm(base *url.URL, realm string) error {
	to, err := base.Parse(realm)
	plainly := g.client.Plain() || g.base.insecure
	if err != nil || to.Host == "" || to.Scheme != "https" && (to.Scheme != "http" || !plainly) {
		return &RealmError{Host: g.client.endpoint.Host, Realm: realm}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.realm = to
	return nil
}

// sameOrigin says whether two addresses have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
}
