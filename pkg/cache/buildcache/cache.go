package buildcache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/registry"
)

// Options say how a cache is reached. The zero value is fine for directories
// and for whatever asks for no password.
type Options struct {
	// Credentials finds user and password; nil means that there are none.
	Credentials CredentialFunc
	// CAFile is a PEM file with further certificate authorities.
	CAFile string
	// CertDir holds *.crt of authorities, and NAME.cert with NAME.key.
	CertDir string
	// Insecure accepts any certificate.
	Insecure bool
	// Proxy chooses a proxy, as http.ProxyFromEnvironment does; nil means
	// that there is none.
	Proxy func(*http.Request) (*url.URL, error)
	// Jobs is how many requests are made side by side, 8 by default.
	Jobs int
	// ChunkSize is how much of a blob is sent at once to a registry, all of
	// it by default. A registry that answers that this is too large gets
	// pieces of 8 MiB.
	ChunkSize int64
	// Retries is how often a request is repeated that failed for reasons
	// that pass, 6 by default, < 0 for never.
	Retries int
	// RetryWait is the first wait before a repetition, which doubles each
	// time; 300 ms by default.
	RetryWait time.Duration
	// UserAgent is what servers are told, pdibuild by default.
	UserAgent string
	// Report is told about repetitions and other things a human may want to
	// know. It is called from several goroutines.
	Report func(text string)
	// Confined is for a directory that builds can write to: what is behind
	// its symbolic links, wherever a build has made them lead, is neither
	// read nor changed.
	Confined bool
	// Slow is told, instead of Report, about servers that answer that they
	// are asked too much (429, 503, Retry-After).
	Slow func(text string)
}

const (
	defaultJobs    = 8
	defaultRetries = 6
)

func (o Options) jobs() int {
	if o.Jobs <= 0 {
		return defaultJobs
	}
	return o.Jobs
}

func (o Options) retries() int {
	switch {
	case o.Retries < 0:
		return 0
	case o.Retries == 0:
		return defaultRetries
	}
	return o.Retries
}

// transport is how the server of an address is reached. Where no directory with
// certificates is named it is that of the host.
func (o Options) transport(address string) (*registry.Transport, error) {
	certDir := o.CertDir
	if certDir == "" {
		host, _, _ := strings.Cut(address, "/")
		certDir = registry.CertDir(host[strings.LastIndexByte(host, '@')+1:])
	}
	return registry.NewTransport(registry.Options{
		CAFile: o.CAFile, CertDir: certDir, Insecure: o.Insecure, Proxy: o.Proxy, Connections: o.jobs(),
		Retries: o.retries(), RetryWait: o.RetryWait, UserAgent: o.UserAgent, Report: o.Report, Slow: o.Slow,
	})
}

// A Credential is what a server wants to know.
type Credential = registry.Credential

// A CredentialFunc finds the credential for HOST[:PORT] and the path there, the
// repository's name. An empty one is no error: many caches can be read by
// everybody.
type CredentialFunc = registry.CredentialFunc

// AuthFiles looks for credentials in files as `podman login` and `docker
// login` write them, credential helpers included; the first one that knows the
// host wins. An entry for HOST/PATH goes before one for HOST. Files that do
// not exist are passed over.
func AuthFiles(files ...string) CredentialFunc { return registry.AuthFiles(files...) }

// A Cache is a binary cache. It can be used by several goroutines.
type Cache struct {
	address string
	reader  reader
	writer  writer // nil if it is read only
	jobs    int
	report  func(string)
}

// Open returns the cache at address; see the package's comment for what
// addresses there are. A directory need not exist yet. No server is asked
// anything but, at a web server, which layout it has.
func Open(ctx context.Context, address string, opt Options) (*Cache, error) {
	c := &Cache{address: address, jobs: opt.jobs(), report: opt.Report}
	if c.report == nil {
		c.report = func(string) {}
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return c, c.openDirectory(address, opt.Confined) //nolint:contextcheck // it keeps a function that opens, and asks nobody
	}
	t, err := opt.transport(rest)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "file":
		if rest, err = url.PathUnescape(rest); err == nil {
			err = c.openDirectory(rest, opt.Confined) //nolint:contextcheck // as above
		}
	case "oci", "oci+https", "oci+http":
		var r *repository
		if r, err = newRepository(rest, scheme == "oci+http", t, opt.Credentials); err == nil {
			r.chunk.Store(max(0, opt.ChunkSize))
			c.reader, c.writer = r, r
		}
	case "http", "https":
		err = c.openWeb(ctx, t, opt)
	default:
		err = fmt.Errorf("%s:// is none of file, oci, oci+http, https, http", scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", address, err)
	}
	return c, nil
}

// String returns the address of the cache.
func (c *Cache) String() string { return c.address }

func (c *Cache) openDirectory(root string, confined bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if st, err := os.Stat(root); err == nil && !st.IsDir() {
		return fmt.Errorf("open cache %s: it is not a directory", root)
	}
	local := localFiles{root, confined}
	has := func(name string) bool {
		_, err := local.stat(context.Background(), name)
		return err == nil
	}
	if !confined && has(v2Root) && !has("v3") { // builds write layout 3
		c.reader = &layout2{local}
		return nil
	}
	d := newDirectory(local)
	c.reader, c.writer = d, d
	return nil
}

func (c *Cache) openWeb(ctx context.Context, t *registry.Transport, opt Options) error {
	root, err := url.Parse(c.address)
	if err != nil {
		return err
	}
	client := registry.NewClient(t, root.Scheme == "http", registry.Endpoint{Host: root.Host})
	web := &webFiles{root: root, client: client, t: t, creds: opt.Credentials}
	if root.User != nil && opt.Credentials == nil {
		password, _ := root.User.Password()
		user := Credential{Username: root.User.Username(), Password: password}
		web.creds = func(context.Context, string, string) (Credential, error) { return user, nil }
	}
	c.reader = &layout3{web}
	_, err = web.stat(ctx, v3Index)
	var refused *StatusError // some servers answer 403 where nothing is
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	if _, older := web.stat(ctx, v2Index); older == nil {
		c.reader = &layout2{web}
		return nil
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// writable returns the cache's writer.
func (c *Cache) writable() (writer, error) {
	if c.writer == nil {
		return nil, fmt.Errorf("%s: %w", c.address, ErrReadOnly)
	}
	return c.writer, nil
}

// stater tells the size of blobs, of caches that are read only, too.
type stater interface {
	stat(ctx context.Context, b Blob) (int64, error)
}
