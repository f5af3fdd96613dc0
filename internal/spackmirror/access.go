package spackmirror

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

// Access are the settings of this host for all registries and servers.
type Access struct {
	// LoginFiles are files with logins, as podman and docker write them.
	LoginFiles []string
	// Username and Password go before these files for pending pushes; empty
	// means that none were given.
	Username, Password string
	// Insecure accepts plain HTTP and unknown certificates.
	Insecure bool
	// CertDir has the certificates; empty means the directories of podman and
	// docker.
	CertDir string
}

// connectOptions are the options of one connection to a binary cache.
type connectOptions struct {
	// credential returns the given credential, perhaps an empty one.
	credential func() buildcache.Credential
	env        map[string]string
	report     func(string)
	// slow is told, instead of report, that a server wants fewer requests.
	slow func(string)
}

// open opens a binary cache with the given credential or, if that is empty, with
// the user's logins.
func (a *Access) open(ctx context.Context, address string, opt connectOptions) (*buildcache.Cache, error) {
	files := buildcache.AuthFiles(a.LoginFiles...)
	return buildcache.Open(ctx, address, buildcache.Options{
		Credentials: func(ctx context.Context, host, repository string) (buildcache.Credential, error) {
			if c := opt.credential(); c.Password != "" || c.AccessToken != "" {
				return c, nil
			}
			return files(ctx, host, repository)
		},
		Insecure: a.Insecure,
		CertDir:  a.CertDir,
		Proxy:    proxyOf(opt.env),
		Report:   opt.report,
		Slow:     opt.slow,
	})
}

func proxyOf(env map[string]string) func(*http.Request) (*url.URL, error) {
	get := func(name string) string {
		if v := env[strings.ToLower(name)]; v != "" {
			return v
		}
		return env[name]
	}
	choose := (&httpproxy.Config{HTTPProxy: get("HTTP_PROXY"), HTTPSProxy: get("HTTPS_PROXY"), NoProxy: get("NO_PROXY")}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
}
