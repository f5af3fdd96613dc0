package buildcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// PullOptions say what Pull does. The zero value takes all packages.
type PullOptions struct {
	// Filters choose packages; one of them suffices. None chooses all.
	Filters []Filter
	// Dependencies come along.
	Dependencies Dependencies
	// Tree is how the tree will be called where its programs run, which is
	// what is written into files. By default it is where the tree is.
	Tree string
	// Keys are for caches whose packages have to be signed: see VerifyOptions.
	Keys *Keys
	// Progress is told about each package, from several goroutines.
	Progress func(CopyEvent)
}

// A PullResult says what Pull did.
type PullResult struct {
	// Prefixes are those of the packages that were unpacked, Present of those
	// that had been there.
	Prefixes []string `json:"prefixes"`
	Present  []string `json:"present"`
	// Absent are dependencies that the cache does not hold.
	Absent []Dependency `json:"absent,omitempty"`
	// Sbang says that scripts among the files want Spack's program of that
	// name, which belongs to the tree and to no package.
	Sbang string `json:"sbang,omitempty"`
}

// Pull unpacks packages into an install tree, which need not exist, dependencies
// first, and writes the places where they are now into their files, as Spack
// does when it installs from a cache. A prefix appears when all of it is there.
// The tree's database is left alone: 'spack reindex' finds what is new.
func (c *Cache) Pull(ctx context.Context, installTree string, opt PullOptions) (*PullResult, error) {
	p, err := c.newPuller(ctx, installTree, opt)
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", c, err)
	}
	defer p.root.Close()
	chosen, absent, err := p.choose()
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", c, err)
	}
	p.result.Absent = absent
	for i, s := range chosen {
		present, err := p.one(ctx, s)
		if err != nil {
			return p.result, fmt.Errorf("pull from %s: %w", c, &PackageError{s.String(), err})
		}
		if opt.Progress != nil {
			opt.Progress(CopyEvent{Package: s, Done: i + 1, Total: len(chosen), Present: present})
		}
	}
	return p.result, nil
}

// A puller is one run of Pull.
type puller struct {
	cache *Cache
	from  *catalog
	opt   PullOptions
	dir   string
	root  *os.Root
	// called is how the tree is called in its files.
	called string
	// prefixes are those in the tree, by hash, as its files call them.
	prefixes map[string]string
	result   *PullResult
}

func (c *Cache) newPuller(ctx context.Context, installTree string, opt PullOptions) (*puller, error) {
	dir, err := filepath.Abs(installTree)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil { // the umask decides
		return nil, err
	}
	p := &puller{cache: c, opt: opt, dir: dir, called: opt.Tree, prefixes: map[string]string{}}
	p.result = &PullResult{Prefixes: []string{}, Present: []string{}}
	if p.called == "" {
		p.called = dir
	}
	if p.from, err = c.catalog(ctx, false); err != nil {
		return nil, err
	}
	if err := p.readDatabase(); err != nil {
		return nil, err
	}
	p.root, err = os.OpenRoot(dir)
	return p, err
}

// readDatabase finds what is in the tree already.
func (p *puller) readDatabase() error {
	f, err := os.Open(filepath.Join(p.dir, treeDatabase))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	db, err := spack.ReadDatabase(f)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	for hash, in := range db.Installs {
		if in.Installed && in.Prefix != "" {
			p.prefixes[hash] = in.Prefix
		}
	}
	return nil
}

// choose returns the packages to unpack, dependencies first.
func (p *puller) choose() (chosen []*Spec, absent []Dependency, err error) {
	var roots []*Spec
	for _, s := range p.from.packages() {
		if matchAny(p.opt.Filters, s) {
			roots = append(roots, s)
		}
	}
	if len(roots) == 0 {
		return nil, nil, fmt.Errorf("%w: no package is chosen", ErrNotFound)
	}
	for _, s := range p.from.closure(roots, p.opt.Dependencies.follows) {
		_, stored := p.from.refs[s.Hash]
		switch {
		case stored && p.from.broken[s.Hash] == nil:
			chosen = append(chosen, s)
		case s.External == "" && p.prefixes[s.Hash] == "":
			absent = append(absent, Dependency{Name: s.Name, Hash: s.Hash})
		}
	}
	return chosen, absent, nil
}

// one deals with one package.
func (p *puller) one(ctx context.Context, s *Spec) (present bool, err error) {
	if prefix := p.prefixes[s.Hash]; prefix != "" {
		p.result.Present = append(p.result.Present, prefix)
		return true, nil
	}
	if s.buildSpec != "" {
		return false, errors.New("it is spliced: its archive is of another package, which Spack alone can change into it")
	}
	m, _, err := load(ctx, p.cache.reader, p.from.refs[s.Hash])
	if err != nil {
		return false, err
	}
	if err := p.opt.Keys.require(p.from.refs[s.Hash].key, m); err != nil {
		return false, err
	}
	u, err := p.unpack(ctx, m.archive)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.root.RemoveAll(u.dir)) }()
	if err := u.readInfo(); err != nil {
		return false, err
	}
	rel := u.info.RelativePrefix
	if !filepath.IsLocal(rel) || rel == "." {
		return false, damaged(s.String(), "its place in the install tree is %q", rel)
	}
	if _, err := p.root.Stat(filepath.Join(rel, prefixSpec)); err == nil {
		present = true // and 'spack reindex' was not called yet
	} else if err := p.settle(u, s, rel); err != nil {
		return false, err
	}
	p.prefixes[s.Hash] = filepath.Join(p.called, rel)
	list := &p.result.Prefixes
	if present {
		list = &p.result.Present
	}
	*list = append(*list, filepath.Join(p.dir, rel))
	return present, nil
}

// settle makes what was unpacked a prefix of the tree.
func (p *puller) settle(u *unpacked, s *Spec, rel string) error {
	sbang := filepath.Join(p.called, "bin/sbang")
	places := &placer{}
	places.move(u.info.SbangPath, sbang)
	for hash, old := range u.info.HashToPrefix {
		switch now := p.prefixes[hash]; {
		case hash == s.Hash:
			places.move(old, filepath.Join(p.called, rel))
		case now != "":
			places.move(old, now)
		}
	}
	places.move(u.info.BuildPath, p.called)
	if err := u.relocate(places); err != nil {
		return err
	}
	if u.sbang {
		if _, err := p.root.Stat("bin/sbang"); err != nil {
			p.result.Sbang = sbang
		}
	}
	if err := p.root.MkdirAll(filepath.Dir(rel), 0o777); err != nil {
		return err
	}
	return p.root.Rename(filepath.Join(u.dir, u.prefix), rel)
}

// readInfo reads what an archive says about itself.
func (u *unpacked) readInfo() error {
	data, err := u.root.ReadFile(filepath.Join(u.dir, u.prefix, buildInfo))
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, &u.info); err != nil {
		return damaged(buildInfo, "%v", err)
	}
	if u.info.HashToPrefix == nil {
		u.info.HashToPrefix = map[string]string{}
		for prefix, hash := range u.info.PrefixToHash {
			u.info.HashToPrefix[hash] = prefix
		}
	}
	if u.info.BuildPath == "" {
		return damaged(buildInfo, "it does not say where the package was installed")
	}
	return nil
}
