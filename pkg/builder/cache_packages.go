package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// manifestSuffix ends the names of packages' manifests in a binary cache.
const manifestSuffix = ".spec.manifest.json"

// LocalBuildcache is where, below the directory of images, the local binary
// cache is. Builds write to it.
const LocalBuildcache = "pdibuild/cache/spack/buildcache"

// packageFiles opens the local binary cache. Packages are built with it at hand,
// so that what is in it may be links to anything.
func (b *Builder) packageFiles() (*os.Root, error) {
	return os.OpenRoot(filepath.Join(b.cacheDir, "spack/buildcache"))
}

// packageManifests are the files that name packages in the local binary cache,
// by the packages' hashes. Their times are when the packages were last used.
func packageManifests(root *os.Root) map[string]string {
	files, _ := fs.Glob(root.FS(), "v3/manifests/spec/*/*"+manifestSuffix) // the pattern is right
	manifests := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), manifestSuffix)
		manifests[name[strings.LastIndexByte(name, '-')+1:]] = file
	}
	return manifests
}

// packageEntries lists the local Spack binary cache.
func (b *Builder) packageEntries(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	root, err := b.packageFiles()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	manifests := packageManifests(root)
	if len(manifests) == 0 {
		return nil, nil
	}
	local, err := b.localBuildcache(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := local.List(ctx, buildcache.ListOptions{})
	if err != nil && !errors.Is(err, buildcache.ErrNotFound) {
		return nil, err
	}
	var entries []*CacheEntry
	for _, p := range packages {
		info, err := root.Stat(manifests[p.Hash])
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

// localBuildcache opens the local binary cache as one.
func (b *Builder) localBuildcache(ctx context.Context) (*buildcache.Cache, error) {
	return buildcache.Open(ctx, b.spackCache("buildcache"), buildcache.Options{Confined: true})
}

// removePackages removes packages from the local binary cache.
func (b *Builder) removePackages(ctx context.Context, going map[string]bool, alone bool) error {
	local, err := b.localBuildcache(ctx)
	if err != nil {
		return err
	}
	if err := local.Clean(); err != nil || len(going) == 0 {
		return err
	}
	root, err := b.packageFiles()
	if err != nil {
		return err
	}
	defer root.Close()
	// The manifests go first: without one, Spack does not ask for the rest.
	for hash, file := range packageManifests(root) {
		if !going[hash] {
			continue
		}
		if err := root.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
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
	root, err := b.packageFiles()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	manifests, now := packageManifests(root), time.Now()
	var filters []buildcache.Filter
	for _, h := range hashes {
		if file, ok := manifests[h]; ok {
			_ = root.Chtimes(file, now, now)
			filters = append(filters, buildcache.Filter{Hash: h})
		}
	}
	if len(filters) == 0 {
		return nil, nil
	}
	local, err := b.localBuildcache(ctx)
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
		removeBlobs(root, file)
		if err := root.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return dropped, err
		}
		b.notices.add(fmt.Sprintf("package %s in the local binary cache is damaged (%s); it was dropped, and is fetched or built again", f.Package, f.Problem))
	}
	return dropped, nil
}

// removeBlobs removes what a manifest names: what is there under its name would
// not be written again.
func removeBlobs(root *os.Root, manifest string) {
	data, err := rootfs.ReadRegular(root, manifest)
	if err != nil {
		return
	}
	m, err := spack.ParseManifest(manifest, data)
	if err != nil {
		return
	}
	for _, blob := range m.Blobs {
		_ = root.Remove(blob.Path())
	}
}
