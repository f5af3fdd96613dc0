package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// This file is between the local binary cache and the environment's mirrors.
// Packages go through us and not through Spack: the build never sees a
// credential, and a registry that Spack cannot talk to is none of its business.

// fetch brings packages that a mirror has and this host lacks into the local
// binary cache. A mirror that cannot be used makes the build slower, no more,
// unless it is required.
func (j *spackJob) fetch(ctx context.Context) error {
	if _, err := j.run.b.soundPackages(ctx, slices.Collect(maps.Keys(j.lock.Specs))); err != nil {
		j.warn(fmt.Sprintf("the local binary cache cannot be checked: %v", err))
	}
	j.run.b.notices.tell(j.run.emit)
	m := j.mirrors()
	offers, troubles, err := m.ask(ctx, j.in.env.Mirrors)
	if err != nil {
		return err
	}
	for _, t := range troubles {
		if err := j.mirrorTrouble("pull", t.mirror.Name, t.mirror.Fetch.URL, t.err); err != nil {
			return err
		}
	}
	if err := j.lookWhatIsThere(ctx); err != nil {
		return err
	}
	specs := missing(j.lock, offers, j.thereAlready)
	f := foretell(specs, offers)
	if len(f.Compile) > 0 {
		j.run.b.soundSources()
		j.run.b.notices.tell(j.run.emit)
	}
	if err := m.weigh(ctx, f, specs, offers); err != nil {
		return err
	}
	e := j.event(progress.Forecast)
	e.Text, e.Done, e.Total = f.String(), int64(f.Cached), int64(f.Specs)
	j.run.emit(e)
	local := offers[0]
	for _, o := range offers[1:] {
		if err := j.fetchFrom(ctx, o, local); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := j.mirrorTrouble("pull", o.mirror.Name, o.mirror.Fetch.URL, err); err != nil {
				return err
			}
		}
	}
	j.have = local.has
	return nil
}

// mirrors are those of this step.
func (j *spackJob) mirrors() *mirrors {
	if j.known == nil {
		j.known = &mirrors{
			b: j.run.b, step: j.step, env: j.run.opt.Env, secrets: j.run.opt.Secrets, variable: j.run.opt.Variable,
			report: func(text string) { j.say("%s", text) }, slow: j.warn, down: map[string]error{},
		}
	}
	return j.known
}

// mirrorTrouble is an error where the cache is required, else a warning.
func (j *spackJob) mirrorTrouble(op, name, address string, err error) error {
	if j.step.Buildcache != nil && j.step.Buildcache.Required {
		return &RegistryError{Op: op, Image: address, Err: err, Hint: "the recipe says that this binary cache is required; 'required: false' goes on without it"}
	}
	var nobody *buildcache.NoCredentialError
	if errors.As(err, &nobody) {
		err = fmt.Errorf("%w (secrets in the step's 'buildcache', variables in the mirror's access_pair, or 'podman login %s' give them)", err, nobody.Host)
	}
	consequence := "the build goes on without it"
	if op == "push" {
		consequence = "nothing is lost: the packages are in the local binary cache, and 'pdibuild push --buildcache' sends them later"
	}
	j.warn(fmt.Sprintf("binary cache %s (%s), %s: %v; %s", name, address, op, err, consequence))
	return nil
}

// needed are the packages of the lock that have to be there, given those that
// a cache has: what is built needs its build dependencies as well.
func needed(lock *spack.Lock, have map[string]bool) []*spack.Spec {
	seen := map[string]bool{}
	var list []*spack.Spec
	var visit func(hash string)
	visit = func(hash string) {
		s := lock.Specs[hash]
		if s == nil || seen[hash] {
			return
		}
		seen[hash] = true
		if s.External == nil {
			list = append(list, s)
		}
		for _, d := range s.Dependencies {
			if d.Types&(spack.Link|spack.Run) != 0 || !have[hash] && d.Types&spack.Build != 0 {
				visit(d.Hash)
			}
		}
	}
	for _, r := range lock.Roots {
		visit(r.Hash)
	}
	return list
}

// fetchFrom copies what is needed, this mirror has and the local cache lacks.
func (j *spackJob) fetchFrom(ctx context.Context, from, local *offer) error {
	var hashes []string
	for _, s := range missing(j.lock, []*offer{from, local}, j.thereAlready) {
		if from.has[s.Hash] && !local.has[s.Hash] {
			hashes = append(hashes, s.Hash)
		}
	}
	res, err := copyPackages(ctx, from.cache, local.cache, hashes, buildcache.CopyOptions{NoIndex: true, Keys: from.keys, Progress: j.transferred("fetched")})
	if res != nil {
		for _, hash := range slices.Concat(res.Copied, res.Present) {
			local.has[hash] = true
		}
	}
	return err
}

// transferred reports packages on their way.
func (j *spackJob) transferred(done string) func(buildcache.CopyEvent) {
	return func(e buildcache.CopyEvent) {
		if e.Present || e.Err != nil {
			return
		}
		ev := j.event(progress.Package)
		ev.Text, ev.Done, ev.Total = fmt.Sprintf("%s@%s %s", e.Package.Name, e.Package.Version, done), int64(e.Done), int64(e.Total)
		j.run.emit(ev)
	}
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

// pushPackages sends what the environment consists of to the mirrors that the
// step names, and the image that it wants to have there.
func (j *spackJob) pushPackages(ctx context.Context) error {
	images, err := j.imagesOfPackages(ctx)
	if err != nil {
		return err
	}
	return j.push(ctx, images)
}

// push sends packages, and images by their tags.
func (j *spackJob) push(ctx context.Context, images map[string]buildcache.Image) error {
	mirrors, err := j.in.pushedTo(j.step)
	if err != nil || len(mirrors) == 0 {
		return err
	}
	local, err := j.run.b.localBuildcache(ctx)
	if err != nil {
		return err
	}
	for _, m := range mirrors {
		if err := j.pushTo(ctx, local, m, images); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := j.run.b.remember(PendingPush{
				Mirror: m.Name, URL: m.Push.URL, UserVariable: m.Push.IDVariable, SecretVariable: m.Push.SecretVariable, Hashes: j.ownHashes(), Images: images,
			}); err != nil {
				return err
			}
			if err := j.mirrorTrouble("push", m.Name, m.Push.URL, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// pushedTo are the mirrors of the environment that a step pushes to.
func (in *spackInputs) pushedTo(step recipe.SpackInstall) ([]spack.Mirror, error) {
	if step.Buildcache == nil {
		return nil, nil
	}
	var list []spack.Mirror
	for _, name := range step.Buildcache.Push {
		i := slices.IndexFunc(in.env.Mirrors, func(m spack.Mirror) bool { return m.Name == name })
		if i < 0 {
			return nil, &InputError{Subject: "buildcache: push", Err: fmt.Errorf("the environment has no mirror %q", name), Hint: "its mirrors are those of mirrors: in " + step.Environment}
		}
		m := in.env.Mirrors[i]
		if step.Buildcache.Tag != "" && !strings.HasPrefix(m.Push.URL, "oci") {
			return nil, &InputError{Subject: "buildcache: tag", Err: fmt.Errorf("mirror %q, %s: %w", name, m.Push.URL, buildcache.ErrNoTags), Hint: "leave out tag:, or push to a registry"}
		}
		list = append(list, m)
	}
	return list, nil
}

// imagesOfPackages are what is to have a tag at the mirrors: the environment's
// packages, with the variables that 'spack load' sets for them. What activates
// the environment does not count, since no view is in such an image.
func (j *spackJob) imagesOfPackages(ctx context.Context) (map[string]buildcache.Image, error) {
	if j.step.Buildcache == nil || j.step.Buildcache.Tag == "" {
		return nil, nil
	}
	var img buildcache.Image
	load := []string{"-e", j.dir, "load", "--sh"}
	for _, r := range j.lock.Roots {
		if s := j.lock.Specs[r.Hash]; s != nil && s.External == nil {
			img.Roots, load = append(img.Roots, r.Hash), append(load, "/"+r.Hash)
		}
	}
	if len(img.Roots) == 0 {
		j.warn("buildcache: tag: all specs of the environment are the system's, so there is no image of them")
		return nil, nil
	}
	changes, err := j.changes(ctx, "spack load", load...)
	if err != nil {
		return nil, err
	}
	env := map[string]string{"PATH": "/bin:/usr/bin"} // as Spack has it
	changes.Apply(env)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		img.Env = append(img.Env, name+"="+env[name])
	}
	return map[string]buildcache.Image{j.step.Buildcache.Tag: img}, nil
}

func (j *spackJob) pushTo(ctx context.Context, local *buildcache.Cache, m spack.Mirror, images map[string]buildcache.Image) error {
	all := j.mirrors()
	if b := j.step.Buildcache; b.Password != "" && all.secret(b.Password) == "" {
		return fmt.Errorf("secret %q was not given", b.Password)
	}
	remote, err := all.open(ctx, m.Push)
	if err != nil {
		return err
	}
	hashes := j.ownHashes()
	res, err := copyPackages(ctx, local, remote, hashes, buildcache.CopyOptions{Progress: j.transferred("pushed")})
	if err != nil {
		return err
	}
	j.say("%s: %d packages pushed, %d had been there, %d bytes sent", m.Name, len(res.Copied), len(res.Present), res.SentBytes)
	for tag, img := range images {
		if err := remote.Tag(ctx, tag, img); err != nil {
			return err
		}
		j.say("%s: an image of the packages has the tag %s", m.Name, tag)
	}
	return j.run.b.forgetPushed(PendingPush{URL: m.Push.URL, Hashes: hashes, Images: images})
}

// ownHashes are those of all packages that are not the system's.
func (j *spackJob) ownHashes() []string {
	var hashes []string
	for hash, s := range j.lock.Specs {
		if s.External == nil {
			hashes = append(hashes, hash)
		}
	}
	return hashes
}

// pushAfterFailure sends what is finished all the same: it is of use to
// others. The failure is what counts, so trouble here is only a warning.
func (j *spackJob) pushAfterFailure(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if err := j.push(ctx, nil); err != nil {
		j.warn(err.Error())
	}
}
