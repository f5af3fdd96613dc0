package spackmirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A Progress receives each package that a transfer has brought, and how many of
// all are done.
type Progress func(p *buildcache.Spec, done, total int)

func (report Progress) event(e buildcache.CopyEvent) {
	if report != nil && !e.Present && e.Err == nil {
		report(e.Package, e.Done, e.Total)
	}
}

// Fetch copies the missing packages that a source has into the local cache, which
// is the first of the sources.
func (m *Mirrors) Fetch(ctx context.Context, from, local *Source, missing []*spack.Spec, report Progress) error {
	var hashes []string
	for _, s := range missing {
		if from.Has[s.Hash] && !local.Has[s.Hash] {
			hashes = append(hashes, s.Hash)
		}
	}
	res, err := copyPackages(ctx, from.cache, local.cache, hashes, buildcache.CopyOptions{NoIndex: true, Keys: from.keys, Progress: report.event})
	if res != nil {
		for _, hash := range slices.Concat(res.Copied, res.Present) {
			local.Has[hash] = true
		}
	}
	return err
}

// Push sends packages of the local cache to the mirrors in the list, and images
// of them by their tags. What a mirror refuses is recorded as pending.
func (m *Mirrors) Push(ctx context.Context, list []spack.Mirror, hashes []string, images map[string]buildcache.Image, report Progress) error {
	if len(list) == 0 {
		return nil
	}
	local, err := m.Store.OpenCache(ctx)
	if err != nil {
		return err
	}
	for _, mirror := range list {
		p := PendingPush{
			Mirror: mirror.Name, URL: mirror.Push.URL, UserVariable: mirror.Push.IDVariable, SecretVariable: mirror.Push.SecretVariable,
			Hashes: hashes, Images: images,
		}
		if err := m.pushTo(ctx, local, mirror.Push, p, report); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := m.Store.addPending(p); err != nil {
				return err
			}
			if err := m.Fail("push", p.Mirror, p.URL, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Mirrors) pushTo(ctx context.Context, local *buildcache.Cache, c spack.Connection, p PendingPush, report Progress) error {
	if b := m.Settings; b != nil && b.Password != "" && m.secret(b.Password) == "" {
		return fmt.Errorf("secret %q was not given", b.Password)
	}
	remote, err := m.open(ctx, c)
	if err != nil {
		return err
	}
	res, err := copyPackages(ctx, local, remote, p.Hashes, buildcache.CopyOptions{Progress: report.event})
	if err != nil {
		return err
	}
	m.Report(fmt.Sprintf("%s: %d packages pushed, %d had been there, %d bytes sent", p.Mirror, len(res.Copied), len(res.Present), res.SentBytes))
	for tag, img := range p.Images {
		if err := remote.Tag(ctx, tag, img); err != nil {
			return err
		}
		m.Report(fmt.Sprintf("%s: an image of the packages has the tag %s", p.Mirror, tag))
	}
	return m.Store.removePending(p)
}

// copyPackages copies the packages with the given hashes.
func copyPackages(ctx context.Context, from, to *buildcache.Cache, hashes []string, opt buildcache.CopyOptions) (*buildcache.CopyResult, error) {
	for _, h := range hashes {
		opt.Filters = append(opt.Filters, buildcache.Filter{Hash: h})
	}
	opt.Dependencies = buildcache.NoDependencies
	if len(hashes) == 0 {
		return &buildcache.CopyResult{}, nil
	}
	return buildcache.Copy(ctx, from, to, opt)
}
