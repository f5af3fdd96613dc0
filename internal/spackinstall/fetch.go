package spackinstall

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// fetch copies the missing packages that mirrors have into the local binary cache.
// A mirror that cannot be used makes the build slower and is no error, unless the
// recipe requires it.
func (j *Job) fetch(ctx context.Context) error {
	if _, err := j.Store.RemoveDamaged(ctx, slices.Collect(maps.Keys(j.lock.Specs))); err != nil {
		j.warn(fmt.Sprintf("the local binary cache cannot be checked: %v", err))
	}
	j.ShowWarnings()
	m := j.Mirrors
	sources, failed, err := m.Query(ctx, j.mirrors)
	if err != nil {
		return err
	}
	for _, u := range failed {
		if err := m.Fail("pull", u.Mirror.Name, u.Mirror.Fetch.URL, u.Err); err != nil {
			return err
		}
	}
	if err := j.withoutDeveloped(ctx, sources[0]); err != nil {
		return err
	}
	spackmirror.Exclude(sources, j.developed)
	if err := j.recordInstalled(ctx); err != nil {
		return err
	}
	specs := spackmirror.Missing(j.lock, sources, j.installed)
	f := spackmirror.NewForecast(specs, sources)
	if len(f.Compile) > 0 {
		j.CheckSources()
		j.ShowWarnings()
	}
	if err := f.AddSizes(ctx, specs, sources); err != nil {
		return err
	}
	j.step.Emit(progress.Event{Kind: progress.Forecast, Text: f.String(), Done: int64(f.Cached), Total: int64(f.Specs)})
	local := sources[0]
	for _, from := range sources[1:] {
		missing := spackmirror.Missing(j.lock, []*spackmirror.Source{from, local}, j.installed)
		if err := m.Fetch(ctx, from, local, missing, j.transferred("fetched")); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := m.Fail("pull", from.Mirror.Name, from.Mirror.Fetch.URL, err); err != nil {
				return err
			}
		}
	}
	j.cached = local.Has
	return nil
}

// transferred reports each package that was fetched or pushed.
func (j *Job) transferred(verb string) spackmirror.Progress {
	return func(p *buildcache.Spec, done, total int) {
		j.step.Emit(progress.Event{
			Kind: progress.Package, Text: fmt.Sprintf("%s@%s %s", p.Name, p.Version, verb), Done: int64(done), Total: int64(total),
		})
	}
}
