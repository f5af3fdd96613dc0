// Package spackmirror brings Spack packages to this host and away from it: it
// keeps the local binary cache, which builds write to, fetches packages from the
// mirrors of an environment, pushes them there, and records what could not be
// pushed yet. Spack itself talks to no mirror, so that a build never sees a
// credential.
package spackmirror

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
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// manifestSuffix ends the names of packages' manifests in a binary cache.
const manifestSuffix = ".spec.manifest.json"

// A Store is a directory of the host that all spack steps share. It holds the
// local binary cache, Spack's source archives, and records beside them.
type Store struct {
	Dir string
	// Warn gets a message about each damaged package that was removed.
	Warn func(text string)
}

// Path makes a directory of the store and returns its path.
func (s *Store) Path(name string) string {
	dir := filepath.Join(s.Dir, name)
	_ = os.MkdirAll(dir, 0o755) // its user reports what is wrong
	return dir
}

// OpenCache opens the local binary cache.
func (s *Store) OpenCache(ctx context.Context) (*buildcache.Cache, error) {
	return buildcache.Open(ctx, s.Path("buildcache"), buildcache.Options{Confined: true})
}

// openFiles opens the directory of the local binary cache. Packages are built
// with access to it, so that links in it may lead anywhere.
func (s *Store) openFiles() (*os.Root, error) {
	return os.OpenRoot(filepath.Join(s.Dir, "buildcache"))
}

// manifests returns the files that name packages in the local binary cache, by
// the packages' hashes. Their times are when the packages were last used.
func manifests(root *os.Root) map[string]string {
	files, _ := fs.Glob(root.FS(), "v3/manifests/spec/*/*"+manifestSuffix) // the pattern is right
	found := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), manifestSuffix)
		found[name[strings.LastIndexByte(name, '-')+1:]] = file
	}
	return found
}

// A Package is a package in the local binary cache.
type Package struct {
	Hash, Name, Version string
	Size                int64
	LastUse             time.Time
}

// Packages lists the local binary cache.
func (s *Store) Packages(ctx context.Context) ([]Package, error) {
	root, err := s.openFiles()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files := manifests(root)
	if len(files) == 0 {
		return nil, nil
	}
	local, err := s.OpenCache(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := local.List(ctx, buildcache.ListOptions{})
	if err != nil && !errors.Is(err, buildcache.ErrNotFound) {
		return nil, err
	}
	var packages []Package
	for _, p := range listed {
		info, err := root.Stat(files[p.Hash])
		if err != nil {
			continue
		}
		packages = append(packages, Package{Hash: p.Hash, Name: p.Name, Version: p.Version, Size: max(p.Size, 0), LastUse: info.ModTime()})
	}
	return packages, nil
}

// Remove removes packages from the local binary cache. Alone is true when no
// other process builds.
func (s *Store) Remove(ctx context.Context, hashes map[string]bool, alone bool) error {
	local, err := s.OpenCache(ctx)
	if err != nil {
		return err
	}
	if err := local.Clean(); err != nil || len(hashes) == 0 {
		return err
	}
	root, err := s.openFiles()
	if err != nil {
		return err
	}
	defer root.Close()
	// The manifests go first: without one, Spack does not ask for the rest.
	for hash, file := range manifests(root) {
		if !hashes[hash] {
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
		return nil // another build is writing this manifest, or was killed: the next prune reads it
	}
	return err
}

// RemoveDamaged reads those of the packages that the local binary cache has,
// removes the damaged ones, and marks the others as used. It returns the hashes
// of the removed ones.
func (s *Store) RemoveDamaged(ctx context.Context, hashes []string) (removed []string, err error) {
	root, err := s.openFiles()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files, now := manifests(root), time.Now()
	var filters []buildcache.Filter
	for _, h := range hashes {
		if file, ok := files[h]; ok {
			_ = root.Chtimes(file, now, now)
			filters = append(filters, buildcache.Filter{Hash: h})
		}
	}
	if len(filters) == 0 {
		return nil, nil
	}
	local, err := s.OpenCache(ctx)
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
		removed = append(removed, hash)
		file := files[hash]
		if file == "" {
			continue
		}
		removeBlobs(root, file)
		if err := root.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return removed, err
		}
		s.Warn(fmt.Sprintf("package %s in the local binary cache is damaged (%s); it was dropped, and is fetched or built again", f.Package, f.Problem))
	}
	return removed, nil
}

// removeBlobs removes the blobs that a manifest names: a writer skips a blob
// whose name exists.
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
