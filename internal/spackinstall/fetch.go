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

// pushPackages sends the environment's packages to the mirrors that the step
// names, with the image that gets a tag there.
func (j *Job) pushPackages(ctx context.Context) error {
	images, err := j.imagesOfPackages(ctx)
	if err != nil {
		return err
	}
	return j.push(ctx, images)
}

// push sends packages, and images by their tags.
func (j *Job) push(ctx context.Context, images map[string]buildcache.Image) error {
	mirrors, err := pushedTo(j.Recipe, j.mirrors, false)
	if err != nil || len(mirrors) == 0 {
		return err
	}
	return j.Mirrors.Push(ctx, mirrors, j.ownHashes(), images, j.transferred("pushed"))
}

// imagesOfPackages returns the image that gets the recipe's tag at the mirrors: the
// environment's packages, with the variables that 'spack load' sets for them.
// Those of 'spack env activate' name the view, which no such image has.
func (j *Job) imagesOfPackages(ctx context.Context) (map[string]buildcache.Image, error) {
	if j.Recipe.Buildcache == nil || j.Recipe.Buildcache.Tag == "" {
		return nil, nil
	}
	var img buildcache.Image
	load := []string{"-e", j.dir, "load", "--sh"}
	for _, r := range j.lock.Roots {
		if s := j.lock.Specs[r.Hash]; s != nil && s.External == nil && !j.developed[r.Hash] {
			img.Roots, load = append(img.Roots, r.Hash), append(load, "/"+r.Hash)
		}
	}
	if len(img.Roots) == 0 {
		j.warn("buildcache: tag: all specs of the environment are the system's or of develop:, so there is no image of them")
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
	return map[string]buildcache.Image{j.Recipe.Buildcache.Tag: img}, nil
}

// ownHashes are those of all packages that are not the distribution's and that
// their hashes identify.
func (j *Job) ownHashes() []string {
	var hashes []string
	for hash, s := range j.lock.Specs {
		if s.External == nil && !j.developed[hash] {
			hashes = append(hashes, hash)
		}
	}
	return hashes
}

// pushAfterFailure sends the finished packages: others can use them. The step's
// failure is the error, so that one of a mirror is only a warning.
func (j *Job) pushAfterFailure(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if err := j.push(ctx, nil); err != nil {
		j.warn(err.Error())
	}
}
