package builder

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// mirrors are the binary caches that a spack step may take packages from: the
// local one and those of its environment, which are talked to outside of the
// container, so that credentials stay there.
type mirrors struct {
	b        *Builder
	step     recipe.SpackInstall
	env      map[string]string
	secrets  map[string][]byte
	variable func(name string) string
	report   func(text string)
	// slow is told once about each mirror that wants fewer requests, report
	// the rest.
	slow     func(text string)
	slowOnes sync.Map
	// down are the mirrors, by name, that did not answer: they are not asked
	// again, which may take minutes.
	down map[string]error
}

// An offer is what a cache has. The local one's has a mirror without a name.
type offer struct {
	mirror spack.Mirror
	cache  *buildcache.Cache
	has    map[string]bool
	// keys are those that its packages have to be signed with; nil means
	// that they need not be.
	keys *buildcache.Keys
}

// trouble is a mirror that can't be used.
type trouble struct {
	mirror spack.Mirror
	err    error
}

// ask returns what the caches have, the local one first.
func (m *mirrors) ask(ctx context.Context, list []spack.Mirror) ([]*offer, []trouble, error) {
	local, err := m.b.localBuildcache(ctx)
	if err != nil {
		return nil, nil, err
	}
	var troubles []trouble
	mine := &offer{cache: local}
	if mine.has, err = held(ctx, local); err != nil {
		troubles = append(troubles, trouble{spack.Mirror{Name: "local", Fetch: spack.Connection{URL: local.String()}}, err})
		mine.has = map[string]bool{}
	}
	offers := []*offer{mine}
	for _, mirror := range list {
		if !mirror.Binary || mirror.Fetch.URL == "" {
			continue
		}
		o, err := m.offer(ctx, mirror)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			troubles = append(troubles, trouble{mirror, err})
			continue
		}
		offers = append(offers, o)
	}
	return offers, troubles, nil
}

// offer asks one mirror.
func (m *mirrors) offer(ctx context.Context, mirror spack.Mirror) (*offer, error) {
	if err := m.down[mirror.Name]; err != nil {
		return nil, err
	}
	o := &offer{mirror: mirror}
	var err error
	if o.keys, err = m.keysFor(ctx, mirror); err != nil {
		return nil, err
	}
	if o.cache, err = m.open(ctx, mirror.Fetch); err != nil {
		return nil, err
	}
	o.has, err = held(ctx, o.cache)
	return o, err
}

// held are the hashes of the packages in a cache.
func held(ctx context.Context, c *buildcache.Cache) (map[string]bool, error) {
	have := map[string]bool{}
	packages, err := c.List(ctx, buildcache.ListOptions{Brief: true})
	if errors.Is(err, buildcache.ErrNotFound) {
		return have, nil
	}
	for i := range packages {
		have[packages[i].Hash] = true
	}
	return have, err
}

// open opens a mirror. Its credential is what the recipe's secrets say, then
// what the variables have that the environment names, then a login.
func (m *mirrors) open(ctx context.Context, c spack.Connection) (*buildcache.Cache, error) {
	return m.b.openRemote(ctx, c.URL, remoteOptions{
		env: m.env, report: func(text string) { m.report(c.URL + ": " + text) },
		slow:       func(text string) { m.slowed(c.URL, text) },
		credential: func() buildcache.Credential { return m.credential(c) },
	})
}

// slowed tells of a mirror that wants fewer requests.
func (m *mirrors) slowed(address, text string) {
	tell := m.report
	if _, known := m.slowOnes.LoadOrStore(address, true); !known && m.slow != nil {
		tell = m.slow
	}
	tell("binary cache " + address + " makes the build slower: " + text)
}

func (m *mirrors) credential(c spack.Connection) buildcache.Credential {
	var cred buildcache.Credential
	if s := m.step.Buildcache; s != nil {
		cred = buildcache.Credential{Username: m.secret(s.Username), Password: m.secret(s.Password)}
	}
	if m.variable != nil && cred.Password == "" {
		if token := m.named(c.TokenVariable); token != "" {
			return buildcache.Credential{AccessToken: token}
		}
		cred.Password = m.named(c.SecretVariable)
	}
	for _, user := range []string{c.ID, m.named(c.IDVariable)} {
		if cred.Username == "" {
			cred.Username = user
		}
	}
	return cred
}

// named is the value of a variable of the host; "" if there is none.
func (m *mirrors) named(name string) string {
	if name == "" || m.variable == nil {
		return ""
	}
	return m.variable(name)
}

// secret is the value of a secret; "" if it was not given.
func (m *mirrors) secret(id string) string {
	return strings.TrimRight(string(m.secrets[id]), "\r\n")
}

// keysFor returns the keys that packages of a mirror have to be signed with, nil
// if they need not be: those that gpg of this host knows. The keys that the
// mirror itself offers do not count: who can put packages there can put keys
// there.
func (m *mirrors) keysFor(ctx context.Context, mirror spack.Mirror) (*buildcache.Keys, error) {
	b := m.step.Buildcache
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
