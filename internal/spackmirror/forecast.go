package spackmirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A Forecast tells how many of the packages of a spack step binary caches have.
type Forecast struct {
	// Known is true when the packages to be installed are known: from a
	// spack.lock, or because they were concretized before. Hint tells what makes
	// them known.
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
	// Trouble lists the mirrors that could not be asked, and why.
	Trouble []string `json:"trouble,omitempty"`
}

// String is the forecast in one line.
func (f *Forecast) String() string {
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

// Forecast asks the mirrors for the packages of a lock. Installed are those that
// need no installation, by hash. A mirror that refuses is named in the forecast
// and is no error.
func (m *Mirrors) Forecast(ctx context.Context, lock *spack.Lock, list []spack.Mirror, installed map[string]string) (*Forecast, error) {
	sources, failed, err := m.Query(ctx, list)
	if err != nil {
		return nil, err
	}
	developed := lock.Developed()
	Exclude(sources, developed)
	maps.DeleteFunc(installed, func(hash, _ string) bool { return developed[hash] })
	specs := Missing(lock, sources, installed)
	f := NewForecast(specs, sources)
	for _, u := range failed {
		f.Trouble = append(f.Trouble, fmt.Sprintf("%s (%s): %v", u.Mirror.Name, u.Mirror.Fetch.URL, u.Err))
	}
	return f, f.AddSizes(ctx, specs, sources)
}

// Needed returns the packages of the lock that have to be installed, given those
// that a cache has: what is built needs its build dependencies as well.
func Needed(lock *spack.Lock, cached map[string]bool) []*spack.Spec {
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
			if d.Types&(spack.Link|spack.Run) != 0 || !cached[hash] && d.Types&spack.Build != 0 {
				visit(d.Hash)
			}
		}
	}
	for _, r := range lock.Roots {
		visit(r.Hash)
	}
	return list
}

// cachedBy returns the packages that any of the sources has.
func cachedBy(sources []*Source) map[string]bool {
	all := map[string]bool{}
	for _, s := range sources {
		for hash := range s.Has {
			all[hash] = true
		}
	}
	return all
}

// Exclude takes packages out of the contents of the sources.
func Exclude(sources []*Source, hashes map[string]bool) {
	for _, s := range sources {
		maps.DeleteFunc(s.Has, func(hash string, _ bool) bool { return hashes[hash] })
	}
}

// Missing returns the packages of the lock that have to be installed and are
// not, given what the sources have.
func Missing(lock *spack.Lock, sources []*Source, installed map[string]string) []*spack.Spec {
	ready := cachedBy(sources)
	for hash := range installed {
		ready[hash] = true
	}
	return slices.DeleteFunc(Needed(lock, ready), func(s *spack.Spec) bool { return installed[s.Hash] != "" })
}

// NewForecast tells which of the missing packages will be compiled, given what
// the sources have.
func NewForecast(specs []*spack.Spec, sources []*Source) *Forecast {
	all := cachedBy(sources)
	f := &Forecast{Known: true}
	for _, s := range specs {
		f.Specs++
		if all[s.Hash] {
			f.Cached++
			continue
		}
		f.Compile = append(f.Compile, s.String())
	}
	slices.Sort(f.Compile)
	return f
}

// AddSizes adds the sizes of the missing packages: of each in the first source
// that has it.
func (f *Forecast) AddSizes(ctx context.Context, specs []*spack.Spec, sources []*Source) error {
	counted := map[string]bool{}
	for _, source := range sources {
		var filters []buildcache.Filter
		for _, s := range specs {
			if source.Has[s.Hash] && !counted[s.Hash] {
				counted[s.Hash] = true
				filters = append(filters, buildcache.Filter{Hash: s.Hash})
			}
		}
		if len(filters) == 0 {
			continue
		}
		packages, err := source.cache.List(ctx, buildcache.ListOptions{Filters: filters})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // it answered a moment ago; the number of packages is what counts
			f.Trouble = append(f.Trouble, err.Error())
			continue
		}
		for i := range packages {
			f.Bytes += packages[i].Size
			if source.Mirror.Name != "" {
				f.FetchBytes += packages[i].Size
			}
		}
	}
	return nil
}
