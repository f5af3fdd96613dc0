package builder

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
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
	r := b.remote.Registries
	return spackmirror.Access{
		LoginFiles: r.Files(), Username: r.Username, Password: r.Password,
		Insecure: r.TLSVerify != nil && !*r.TLSVerify, CertDir: r.CertDir,
	}
}

// mirrors are those of a spack step. The caller sets Report and Warn.
func (b *Builder) mirrors(step recipe.SpackInstall, opt ForecastOptions) *spackmirror.Mirrors {
	return &spackmirror.Mirrors{
		Store: b.spackStore(), Access: b.mirrorAccess(), Settings: step.Buildcache,
		Env: opt.Env, Secrets: opt.Secrets, Variable: opt.Variable,
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
			m := b.mirrors(install.Spack, opt)
			m.Report = func(string) {}
			f, err := step.spack.Forecast(ctx, m, install.Spack, step.lockKey)
			if err != nil {
				return fmt.Errorf("stage %q, %s: %w", p.Stages[i].Name, step.Text, err)
			}
			f.Trouble = maskAll(secrets, f.Trouble)
			step.Spack = f
		}
	}
	return nil
}
