package spackmirror

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Mirrors are the binary caches that a spack step may take packages from: the
// local one and those of its environment. They are asked outside of the
// container, so that credentials stay there.
type Mirrors struct {
	Store  *Store
	Access Access
	// Settings are the recipe's for binary caches; nil if it has none.
	Settings *recipe.Buildcache
	// Env names proxies.
	Env map[string]string
	// Secrets has the values of the recipe's secrets, Variable those of the
	// host's variables that mirrors name for their credentials; nil means that
	// there are none.
	Secrets  map[string][]byte
	Variable func(name string) string
	// Report gets messages, Warn those that the user has to see.
	Report func(text string)
	Warn   func(text string)
	// Pending gets the warning that packages wait in the local binary cache.
	Pending func(text string)

	// slow are the addresses whose slowness was reported.
	slow sync.Map
	// unreachable are the mirrors, by name, that did not answer. They are not
	// asked again, which could take minutes.
	unreachable map[string]error
}

// A Source is a binary cache with its contents. The local one's Mirror has no
// name.
type Source struct {
	Mirror spack.Mirror
	// Has are the hashes of its packages.
	Has   map[string]bool
	cache *buildcache.Cache
	// keys are those that its packages have to be signed with; nil means
	// that they need not be.
	keys *buildcache.Keys
}

// An Unreachable is a mirror that cannot be used, and why.
type Unreachable struct {
	Mirror spack.Mirror
	Err    error
}

// Query returns the contents of the local cache, which comes first, and of the
// mirrors in the list.
func (m *Mirrors) Query(ctx context.Context, list []spack.Mirror) ([]*Source, []Unreachable, error) {
	cache, err := m.Store.OpenCache(ctx)
	if err != nil {
		return nil, nil, err
	}
	var failed []Unreachable
	local := &Source{cache: cache}
	if local.Has, err = contents(ctx, cache); err != nil {
		failed = append(failed, Unreachable{spack.Mirror{Name: "local", Fetch: spack.Connection{URL: cache.String()}}, err})
		local.Has = map[string]bool{}
	}
	sources := []*Source{local}
	for _, mirror := range list {
		if !mirror.Binary || mirror.Fetch.URL == "" {
			continue
		}
		s, err := m.source(ctx, mirror)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, Unreachable{mirror, err})
			continue
		}
		sources = append(sources, s)
	}
	return sources, failed, nil
}

// source asks one mirror for its contents.
func (m *Mirrors) source(ctx context.Context, mirror spack.Mirror) (*Source, error) {
	if err := m.unreachable[mirror.Name]; err != nil {
		return nil, err
	}
	s := &Source{Mirror: mirror}
	var err error
	if s.keys, err = m.keysFor(ctx, mirror); err != nil {
		return nil, err
	}
	if s.cache, err = m.open(ctx, mirror.Fetch); err != nil {
		return nil, err
	}
	s.Has, err = contents(ctx, s.cache)
	return s, err
}

// contents returns the hashes of the packages in a cache.
func contents(ctx context.Context, c *buildcache.Cache) (map[string]bool, error) {
	has := map[string]bool{}
	packages, err := c.List(ctx, buildcache.ListOptions{Brief: true})
	if errors.Is(err, buildcache.ErrNotFound) {
		return has, nil
	}
	for i := range packages {
		has[packages[i].Hash] = true
	}
	return has, err
}

// open opens a mirror. Its credential comes from the recipe's secrets, else from
// the variables that the environment names, else from a login.
func (m *Mirrors) open(ctx context.Context, c spack.Connection) (*buildcache.Cache, error) {
	return m.Access.open(ctx, c.URL, connectOptions{
		env: m.Env, report: func(text string) { m.Report(c.URL + ": " + text) },
		slow:       func(text string) { m.reportSlow(c.URL, text) },
		credential: func() buildcache.Credential { return m.credential(c) },
	})
}

// reportSlow reports that a mirror wants fewer requests, the first time as a
// warning.
func (m *Mirrors) reportSlow(address, text string) {
	report := m.Report
	if _, known := m.slow.LoadOrStore(address, true); !known && m.Warn != nil {
		report = m.Warn
	}
	report("binary cache " + address + " makes the build slower: " + text)
}

func (m *Mirrors) credential(c spack.Connection) buildcache.Credential {
	var cred buildcache.Credential
	if s := m.Settings; s != nil {
		cred = buildcache.Credential{Username: m.secret(s.Username), Password: m.secret(s.Password)}
	}
	if m.Variable != nil && cred.Password == "" {
		if token := m.variable(c.TokenVariable); token != "" {
			return buildcache.Credential{AccessToken: token}
		}
		cred.Password = m.variable(c.SecretVariable)
	}
	for _, user := range []string{c.ID, m.variable(c.IDVariable)} {
		if cred.Username == "" {
			cred.Username = user
		}
	}
	return cred
}

// variable returns the value of a variable of the host; "" if there is none.
func (m *Mirrors) variable(name string) string {
	if name == "" || m.Variable == nil {
		return ""
	}
	return m.Variable(name)
}

// secret returns the value of a secret; "" if it was not given.
func (m *Mirrors) secret(id string) string {
	return strings.TrimRight(string(m.Secrets[id]), "\r\n")
}

// keysFor returns the keys that packages of a mirror have to be signed with, nil
// if they need not be. They are those that gpg of this host knows, and never
// those that the mirror offers: an attacker who can write packages there can
// write keys there.
func (m *Mirrors) keysFor(ctx context.Context, mirror spack.Mirror) (*buildcache.Keys, error) {
	b := m.Settings
	if mirror.Signed == nil || !*mirror.Signed || strings.HasPrefix(mirror.Fetch.URL, "oci") || b != nil && b.Unsigned {
		return nil, nil
	}
	const hint = "'gpg --import FILE' the public keys that you trust, or let 'buildcache: {unsigned: true}' take all packages"
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		return nil, errors.New("its packages have to be signed, and no keys are known to check that with: gpg is not installed; " + hint)
	}
	data, err := exec.CommandContext(ctx, gpg, "--batch", "--quiet", "--export").Output()
	if err != nil || len(data) == 0 {
		return nil, errors.New("its packages have to be signed, and gpg knows no keys to check that with; " + hint)
	}
	return buildcache.ReadKeys(data)
}

// SaveIndex writes the index of a mirror into a directory, which Spack can
// concretize with. ErrNotFound of buildcache means that the mirror has none. A
// mirror that does not answer counts as unreachable from then on.
func (m *Mirrors) SaveIndex(ctx context.Context, mirror spack.Mirror, dir string) error {
	remote, err := m.open(ctx, mirror.Fetch)
	if err == nil {
		err = remote.SaveIndex(ctx, dir)
	}
	// With a damaged index, packages are found one by one.
	if _, remote := buildcache.Remote(err); remote && !errors.Is(err, buildcache.ErrNotFound) && ctx.Err() == nil {
		if m.unreachable == nil {
			m.unreachable = map[string]error{}
		}
		m.unreachable[mirror.Name] = err
	}
	return err
}

// Fail is called for a mirror that cannot be used to fetch ("pull") or push. It
// returns an error where the recipe requires the cache, else it warns.
func (m *Mirrors) Fail(op, name, address string, err error) error {
	if m.Settings != nil && m.Settings.Required {
		return &failure.RegistryError{Op: op, Image: address, Err: err, Hint: "the recipe says that this binary cache is required; 'required: false' goes on without it"}
	}
	var missing *buildcache.NoCredentialError
	if errors.As(err, &missing) {
		err = fmt.Errorf("%w (secrets in the step's 'buildcache', variables in the mirror's access_pair, or 'podman login %s' give them)", err, missing.Host)
	}
	warn, consequence := m.Warn, "the build goes on without it"
	if op == "push" {
		warn, consequence = m.Pending, "nothing is lost: the packages are in the local binary cache"
	}
	warn(fmt.Sprintf("binary cache %s (%s), %s: %v; %s", name, address, op, err, consequence))
	return nil
}
