package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A SpackForecast says how much of a spack step binary caches have.
type SpackForecast struct {
	// Known says that it is known what will be installed: by a spack.lock,
	// or because it was concretized before. Hint says what makes it known.
	Known bool   `json:"known"`
	Hint  string `json:"hint,omitempty"`
	// Specs is how many packages are to be installed, externals and packages of
	// upstreams not counted: what runs, and what building the rest of it needs.
	Specs int `json:"specs"`
	// Cached of them are in the local binary cache or at a mirror, and have
	// Bytes; FetchBytes of these have to be fetched from mirrors.
	Cached     int   `json:"cached"`
	Bytes      int64 `json:"bytes"`
	FetchBytes int64 `json:"fetch_bytes"`
	// Compile are the packages that will be compiled, NAME@VERSION/HASH.
	Compile []string `json:"compile,omitempty"`
	// Trouble says which mirrors could not be asked, and why.
	Trouble []string `json:"trouble,omitempty"`
}

// String says it in one line.
func (f *SpackForecast) String() string {
	if !f.Known {
		return "what will be compiled is not known yet: " + f.Hint
	}
	text := fmt.Sprintf("of these %d specs, %d are in the cache (%s", f.Specs, f.Cached, quantity.Format(f.Bytes))
	if f.FetchBytes > 0 && f.FetchBytes < f.Bytes {
		text += ", " + quantity.Format(f.FetchBytes) + " of it at a mirror"
	}
	text += fmt.Sprintf("), %d will compile", len(f.Compile))
	if f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	return text
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
			m := &mirrors{b: b, step: install.Spack, env: opt.Env, secrets: opt.Secrets, variable: opt.Variable, report: func(string) {}}
			f, err := m.forecast(ctx, step)
			if err != nil {
				return fmt.Errorf("stage %q, %s: %w", p.Stages[i].Name, step.Text, err)
			}
			f.Trouble = maskAll(secrets, f.Trouble)
			step.Spack = f
		}
	}
	return nil
}

// forecast is about a step that is only planned.
func (m *mirrors) forecast(ctx context.Context, step *PlannedStep) (*SpackForecast, error) {
	unknown := &SpackForecast{Hint: "the first build works out what the environment needs and keeps that; 'pdibuild build --write-lock' also writes it beside spack.yaml"}
	data, name := step.spack.lock, spack.LockFileName
	if data == nil && step.Key != "" {
		var err error
		name = m.b.lockPath(step.Key)
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
	offers, trouble, err := m.ask(ctx, step.spack.env.Mirrors)
	if err != nil {
		return nil, err
	}
	there, known := m.b.readThere(step.Key)
	specs := missing(lock, offers, there)
	f := foretell(specs, offers)
	if !known && step.spack.mayHaveUpstreams(m.step) {
		f.Hint = "packages of its upstreams are counted, too: the first build looks which these have"
	}
	for _, t := range trouble {
		f.Trouble = append(f.Trouble, fmt.Sprintf("%s (%s): %v", t.mirror.Name, t.mirror.Fetch.URL, t.err))
	}
	return f, m.weigh(ctx, f, specs, offers)
}

// offered are the packages that any of the caches has.
func offered(offers []*offer) map[string]bool {
	all := map[string]bool{}
	for _, o := range offers {
		for hash := range o.has {
			all[hash] = true
		}
	}
	return all
}

// missing are the packages of the lock that have to be installed: those that are
// needed, given what caches have, and are not there.
func missing(lock *spack.Lock, offers []*offer, there map[string]string) []*spack.Spec {
	ready := offered(offers)
	for hash := range there {
		ready[hash] = true
	}
	return slices.DeleteFunc(needed(lock, ready), func(s *spack.Spec) bool { return there[s.Hash] != "" })
}

// foretell says which of the packages that are missing are compiled, given what
// caches have.
func foretell(specs []*spack.Spec, offers []*offer) *SpackForecast {
	all := offered(offers)
	f := &SpackForecast{Known: true}
	for _, s := range specs {
		f.Specs++
		if all[s.Hash] {
			f.Cached++
			continue
		}
		f.Compile = append(f.Compile, fmt.Sprintf("%s@%s/%s", s.Name, s.Version, s.Hash[:min(len(s.Hash), 7)]))
	}
	slices.Sort(f.Compile)
	return f
}

// weigh adds the sizes of what is missing: of each package in the first cache
// that has it.
func (m *mirrors) weigh(ctx context.Context, f *SpackForecast, specs []*spack.Spec, offers []*offer) error {
	counted := map[string]bool{}
	for _, o := range offers {
		var filters []buildcache.Filter
		for _, s := range specs {
			if o.has[s.Hash] && !counted[s.Hash] {
				counted[s.Hash] = true
				filters = append(filters, buildcache.Filter{Hash: s.Hash})
			}
		}
		if len(filters) == 0 {
			continue
		}
		packages, err := o.cache.List(ctx, buildcache.ListOptions{Filters: filters})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // it answered a moment ago; the number of packages is what counts
			f.Trouble = append(f.Trouble, err.Error())
			continue
		}
		for i := range packages {
			f.Bytes += packages[i].Size
			if o.mirror.Name != "" {
				f.FetchBytes += packages[i].Size
			}
		}
	}
	return nil
}
