package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

type (
	// A SpackForecast tells how many of the packages of a spack step binary
	// caches have.
	SpackForecast = spackmirror.Forecast
	// A PendingPush is what a build could not send to a Spack binary cache.
	PendingPush = spackmirror.PendingPush
	// PendingPushOptions say how PushPending reaches a cache.
	PendingPushOptions = spackmirror.PendingPushOptions
)

// LocalBuildcache is where, below the directory of images, the local binary
// cache is. Builds write to it.
const LocalBuildcache = "pdibuild/cache/spack/buildcache"

// spackStore is what spack steps share on this host.
func (b *Builder) spackStore() *spackmirror.Store {
	return &spackmirror.Store{Dir: filepath.Join(b.cacheDir, "spack"), Warn: b.notices.add}
}

func (b *Builder) spackCache(name string) string { return b.spackStore().Path(name) }

func (b *Builder) mirrorAccess() spackmirror.Access {
	r := b.registries
	return spackmirror.Access{
		LoginFiles: r.loginFiles(), Username: r.Username, Password: r.Password,
		Insecure: r.TLSVerify != nil && !*r.TLSVerify, CertDir: r.CertDir,
	}
}

// PendingPushes returns what builds could not send to binary caches.
func (b *Builder) PendingPushes() ([]PendingPush, error) { return b.spackStore().PendingPushes() }

// PushPending sends what builds could not send, and returns how many packages
// are at their cache now. What cannot be sent now either stays pending; the
// error, a *RegistryError, tells why.
func (b *Builder) PushPending(ctx context.Context, opt PendingPushOptions) (sent int, err error) {
	return b.spackStore().PushPending(ctx, b.mirrorAccess(), opt)
}

// packageEntries lists the local Spack binary cache.
func (b *Builder) packageEntries(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	packages, err := b.spackStore().Packages(ctx)
	if err != nil {
		return nil, err
	}
	var entries []*CacheEntry
	for _, p := range packages {
		e := &CacheEntry{Kind: CachePackage, ID: p.Hash, key: p.Hash, Text: p.Name + "@" + p.Version, Size: p.Size, LastUse: p.LastUse}
		if !e.LastUse.Before(sweep.Since) {
			e.kept(aRunningBuild)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// ForecastOptions say how ForecastSpack reaches mirrors.
type ForecastOptions struct {
	// Env names proxies, as BuildOptions.Env does.
	Env map[string]string
	// Secrets and Variable have credentials, as in BuildOptions.
	Secrets  map[string][]byte
	Variable func(name string) string
}

// ForecastSpack fills in, for the spack steps of a plan that are still to be
// done, what binary caches have of them. It asks the mirrors, unlike Plan; what
// they refuse is noted and no error.
func (b *Builder) ForecastSpack(ctx context.Context, p *Plan, opt ForecastOptions) (err error) {
	secrets := secretSet(p.Recipe, opt.Secrets)
	defer func() { err = maskError(secrets, err) }()
	for i := range p.Stages {
		for n := range p.Stages[i].Steps {
			step := &p.Stages[i].Steps[n]
			install, ok := step.step.(recipe.Spack)
			if !ok || step.Cached || step.spack == nil {
				continue
			}
			m := &spackmirror.Mirrors{
				Store: b.spackStore(), Access: b.mirrorAccess(), Settings: install.Spack.Buildcache,
				Env: opt.Env, Secrets: opt.Secrets, Variable: opt.Variable, Report: func(string) {},
			}
			f, err := b.forecastStep(ctx, m, step, install.Spack)
			if err != nil {
				return fmt.Errorf("stage %q, %s: %w", p.Stages[i].Name, step.Text, err)
			}
			f.Trouble = maskAll(secrets, f.Trouble)
			step.Spack = f
		}
	}
	return nil
}

// forecastStep is about a step that is only planned.
func (b *Builder) forecastStep(ctx context.Context, m *spackmirror.Mirrors, step *PlannedStep, install recipe.SpackInstall) (*SpackForecast, error) {
	unknown := &SpackForecast{Hint: "the first build works out what the environment needs and keeps that"}
	data, name := step.spack.lock, spack.LockFileName
	if data == nil && step.Key != "" {
		var err error
		name = b.lockPath(step.Key)
		if data, err = os.ReadFile(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if data == nil {
		return unknown, nil
	}
	lock, err := spack.ParseLock(name, data)
	if err != nil {
		if step.spack.lock == nil {
			return unknown, nil // a file of ours; it is made again
		}
		return nil, &InputError{Err: err, Hint: "remove it, or let 'spack concretize' write it anew"}
	}
	there, known := b.readThere(step.Key)
	f, err := m.Forecast(ctx, lock, step.spack.env.Mirrors, there)
	if err == nil && !known && step.spack.mayHaveUpstreams(install) {
		f.Hint = "packages of its upstreams are counted, too: the first build looks which these have"
	}
	return f, err
}

// fetch brings packages that a mirror has and this host lacks into the local
// binary cache. A mirror that cannot be used makes the build slower, no more,
// unless it is required.
func (j *spackJob) fetch(ctx context.Context) error {
	if _, err := j.run.b.spackStore().RemoveDamaged(ctx, slices.Collect(maps.Keys(j.lock.Specs))); err != nil {
		j.warn(fmt.Sprintf("the local binary cache cannot be checked: %v", err))
	}
	j.run.b.notices.tell(j.run.emit)
	m := j.mirrors()
	sources, failed, err := m.Query(ctx, j.in.env.Mirrors)
	if err != nil {
		return err
	}
	for _, u := range failed {
		if err := m.Fail("pull", u.Mirror.Name, u.Mirror.Fetch.URL, u.Err); err != nil {
			return err
		}
	}
	if err := j.lookWhatIsThere(ctx); err != nil {
		return err
	}
	specs := spackmirror.Missing(j.lock, sources, j.thereAlready)
	f := spackmirror.NewForecast(specs, sources)
	if len(f.Compile) > 0 {
		j.run.b.soundSources()
		j.run.b.notices.tell(j.run.emit)
	}
	if err := f.AddSizes(ctx, specs, sources); err != nil {
		return err
	}
	e := j.event(progress.Forecast)
	e.Text, e.Done, e.Total = f.String(), int64(f.Cached), int64(f.Specs)
	j.run.emit(e)
	local := sources[0]
	for _, from := range sources[1:] {
		missing := spackmirror.Missing(j.lock, []*spackmirror.Source{from, local}, j.thereAlready)
		if err := m.Fetch(ctx, from, local, missing, j.transferred("fetched")); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := m.Fail("pull", from.Mirror.Name, from.Mirror.Fetch.URL, err); err != nil {
				return err
			}
		}
	}
	j.have = local.Has
	return nil
}

// mirrors are those of this step.
func (j *spackJob) mirrors() *spackmirror.Mirrors {
	if j.known == nil {
		j.known = &spackmirror.Mirrors{
			Store: j.run.b.spackStore(), Access: j.run.b.mirrorAccess(), Settings: j.step.Buildcache,
			Env: j.run.opt.Env, Secrets: j.run.opt.Secrets, Variable: j.run.opt.Variable,
			Report: func(text string) { j.say("%s", text) }, Warn: j.warn,
			Pending: func(text string) {
				e := j.event(progress.Warning)
				e.Text, e.Code = text, string(fail.PushPending)
				j.run.emit(e)
			},
		}
	}
	return j.known
}

// transferred reports packages on their way.
func (j *spackJob) transferred(verb string) spackmirror.Progress {
	return func(p *buildcache.Spec, done, total int) {
		ev := j.event(progress.Package)
		ev.Text, ev.Done, ev.Total = fmt.Sprintf("%s@%s %s", p.Name, p.Version, verb), int64(done), int64(total)
		j.run.emit(ev)
	}
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
	return j.mirrors().Push(ctx, mirrors, j.ownHashes(), images, j.transferred("pushed"))
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
