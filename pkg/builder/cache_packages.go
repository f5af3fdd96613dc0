package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// manifestSuffix ends the names of packages' manifests in a binary cache.
const manifestSuffix = ".spec.manifest.json"

// packageManifests are the files that name packages in the local binary cache,
// by the packages' hashes. Their times are when the packages were last used.
func (b *Builder) packageManifests() map[string]string {
	files, _ := fs.Glob(os.DirFS(b.cacheDir), "spack/buildcache/v3/manifests/spec/*/*"+manifestSuffix) // the pattern is right
	manifests := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), manifestSuffix)
		manifests[name[strings.LastIndexByte(name, '-')+1:]] = filepath.Join(b.cacheDir, file)
	}
	return manifests
}

// packageEntries lists the local Spack binary cache.
func (b *Builder) packageEntries(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	manifests := b.packageManifests()
	if len(manifests) == 0 {
		return nil, nil
	}
	local, err := b.localPackages(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := local.List(ctx, buildcache.ListOptions{})
	if err != nil && !errors.Is(err, buildcache.ErrNotFound) {
		return nil, err
	}
	var entries []*CacheEntry
	for _, p := range packages {
		info, err := os.Stat(manifests[p.Hash])
		if err != nil {
			continue
		}
		e := &CacheEntry{Kind: CachePackage, ID: p.Hash, key: p.Hash, Text: p.Name + "@" + p.Version, Size: max(p.Size, 0), LastUse: info.ModTime()}
		if !e.LastUse.Before(sweep.Since) {
			e.kept(aRunningBuild)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (b *Builder) localPackages(ctx context.Context) (*buildcache.Cache, error) {
	return buildcache.Open(ctx, b.spackCache("buildcache"), buildcache.Options{})
}

// removePackages removes packages from the local binary cache.
func (b *Builder) removePackages(ctx context.Context, going map[string]bool, alone bool) error {
	if len(going) == 0 {
		return nil
	}
	local, err := b.localPackages(ctx)
	if err != nil {
		return err
	}
	// The manifests go first: without one, Spack does not ask for the rest.
	for hash, file := range b.packageManifests() {
		if !going[hash] {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove package /%.7s: %w", hash, err)
		}
	}
	opt := buildcache.PruneOptions{}
	if alone {
		opt.Grace = -1
	}
	_, err = local.Prune(ctx, opt)
	var damage *buildcache.DamageError
	if !alone && errors.As(err, &damage) {
		return nil // a manifest that a build is writing now, or has left: the next prune knows what it names
	}
	return err
}

// soundPackages reads the packages with these hashes that the local binary
// cache has, drops those that are not what their digests say, and marks the
// others as used. It returns what it has dropped.
func (b *Builder) soundPackages(ctx context.Context, hashes []string) (dropped []string, err error) {
	manifests := b.packageManifests()
	var filters []buildcache.Filter
	for _, h := range hashes {
		if file, ok := manifests[h]; ok {
			markUsed(file)
			filters = append(filters, buildcache.Filter{Hash: h})
		}
	}
	if len(filters) == 0 {
		return nil, nil
	}
	local, err := b.localPackages(ctx)
	if err != nil {
		return nil, err
	}
	report, err := local.Verify(ctx, buildcache.VerifyOptions{Filters: filters, Deep: true})
	if err != nil {
		return nil, err
	}
	bad := map[string]bool{}
	for _, f := range report.Findings {
		hash := f.Hash
		if hash == "" || !f.Problem.Serious() || f.Problem == buildcache.NotStored || bad[hash] {
			continue
		}
		bad[hash] = true
		dropped = append(dropped, hash)
		file := manifests[hash]
		if file == "" {
			continue
		}
		b.removeBlobs(file)
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return dropped, err
		}
		b.notices.add(fmt.Sprintf("package %s in the local binary cache is damaged (%s); it was dropped, and is fetched or built again", f.Package, f.Problem))
	}
	return dropped, nil
}

// removeBlobs removes what a manifest names: what is there under its name would
// not be written again.
func (b *Builder) removeBlobs(manifest string) {
	data, err := os.ReadFile(manifest)
	if err != nil {
		return
	}
	m, err := spack.ParseManifest(manifest, data)
	if err != nil {
		return
	}
	for _, blob := range m.Blobs {
		_ = os.Remove(filepath.Join(b.spackCache("buildcache"), filepath.FromSlash(blob.Path())))
	}
}
