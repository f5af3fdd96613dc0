package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A Problem is a kind of finding.
type Problem string

// The problems that Verify finds. Those with a comment that starts with
// "Error" make installations fail or go back to the sources.
const (
	// NoIndex: Spack takes packages by their exact hash alone.
	NoIndex Problem = "no-index"
	// BadIndex is an error: the index can't be read, or is another than it
	// should be.
	BadIndex Problem = "bad-index"
	// NotIndexed: the package is there and the index does not say so.
	NotIndexed Problem = "not-indexed"
	// NotStored is an error: the index promises a package that is not there.
	NotStored Problem = "not-stored"
	// Unreadable is an error: the manifest or the spec file can't be read.
	Unreadable Problem = "unreadable"
	// MissingBlob is an error.
	MissingBlob Problem = "missing-blob"
	// WrongSize is an error: a blob is not as long as the manifest says.
	WrongSize Problem = "wrong-size"
	// WrongDigest is an error: a blob is not what the manifest says, or the
	// spec file names another archive than the manifest.
	WrongDigest Problem = "wrong-digest"
	// MissingDependency: a package needs another one that is not there, so
	// that Spack has to build that one.
	MissingDependency Problem = "missing-dependency"
	// BadSignature is an error: the signature is not of this content, or can't
	// be read, has expired, and so on.
	BadSignature Problem = "bad-signature"
	// UnknownSigner: the signature can't be checked, since nobody told who
	// made it. It is an error if VerifyOptions.Keys are given.
	UnknownSigner Problem = "unknown-signer"
	// Unsigned is an error, and looked for only if VerifyOptions.Keys are
	// given.
	Unsigned Problem = "unsigned"
	// Unused: nothing names the blob. Prune removes such.
	Unused Problem = "unused"
)

// Serious says that the problem makes installations fail or go back to the
// sources.
func (p Problem) Serious() bool {
	return !slices.Contains([]Problem{NoIndex, NotIndexed, MissingDependency, Unused}, p)
}

// A Finding is something that is wrong with a cache.
type Finding struct {
	Problem Problem `json:"problem"`
	// Package is NAME@VERSION/HASH, with the hash shortened, or where its
	// manifest is if that is all that is known.
	Package string `json:"package,omitempty"`
	// Hash is the package's in full.
	Hash string `json:"hash,omitempty"`
	// Blob is the one it is about.
	Blob digest.Digest `json:"blob,omitempty"`
	// Detail says more.
	Detail string `json:"detail,omitempty"`

	lenient bool // not serious in this run
}

// Serious says that the finding makes installations fail or go back to the
// sources.
func (f Finding) Serious() bool { return !f.lenient && f.Problem.Serious() }

// String returns one line.
func (f Finding) String() string {
	var parts []string
	for _, part := range []string{f.Package, string(f.Blob), f.Detail} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return string(f.Problem) + ": " + strings.Join(parts, ": ")
}

// VerifyOptions say how much is verified.
type VerifyOptions struct {
	// Filters choose packages; one of them suffices. None chooses all.
	Filters []Filter
	// Deep reads every blob and checks its digest. Else only its size is
	// looked at.
	Deep bool
	// Keys are those that packages have to be signed with. Without them,
	// signatures are checked with the keys that the cache itself offers.
	Keys *Keys
	// Progress is told how many packages are done, from several goroutines.
	Progress func(done, total int)
}

// A Report is what Verify found.
type Report struct {
	Packages int `json:"packages"`
	// Signed of them have a good signature.
	Signed   int       `json:"signed"`
	Blobs    int       `json:"blobs"`
	Bytes    int64     `json:"bytes"`
	Findings []Finding `json:"findings"`
}

// Sound says that no finding is serious.
func (r *Report) Sound() bool {
	return !slices.ContainsFunc(r.Findings, Finding.Serious)
}

// Verify compares the index with the manifests, and these with the blobs. What
// is wrong is in the report; an error says that the cache could not be looked
// at.
func (c *Cache) Verify(ctx context.Context, opt VerifyOptions) (*Report, error) {
	g, err := c.catalog(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", c, err)
	}
	v := &verifierRun{cache: c, catalog: g, opt: opt, blobs: map[digest.Digest]bool{}, owners: map[digest.Digest]*Spec{}}
	v.report.Findings = []Finding{}
	if v.keys, err = c.keysFor(ctx, opt.Keys); err != nil {
		v.find(Finding{Problem: Unreadable, Detail: err.Error()})
	}
	v.checkIndex()
	if err := v.checkPackages(ctx); err != nil {
		return nil, fmt.Errorf("verify %s: %w", c, err)
	}
	if d, ok := c.reader.(*directory); ok && len(opt.Filters) == 0 {
		if err := v.checkUnused(ctx, d); err != nil {
			return nil, fmt.Errorf("verify %s: %w", c, err)
		}
	}
	for i, f := range v.report.Findings {
		if owner := v.owners[f.Blob]; owner != nil {
			v.report.Findings[i].Package, v.report.Findings[i].Hash = owner.String(), owner.Hash
		}
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int {
		return strings.Compare(a.Package+"\x00"+string(a.Problem)+string(a.Blob), b.Package+"\x00"+string(b.Problem)+string(b.Blob))
	})
	return &v.report, nil
}

// A verifierRun is one run of Verify.
type verifierRun struct {
	cache   *Cache
	catalog *catalog
	opt     VerifyOptions
	keys    *Keys

	mu     sync.Mutex
	report Report
	done   int
	blobs  map[digest.Digest]bool // those that are looked at
	// owners are the packages whose archives blobs are. In a registry,
	// manifests also name the archives of other packages.
	owners map[digest.Digest]*Spec
}

func (v *verifierRun) find(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Findings = append(v.report.Findings, f)
}

// checkIndex compares the index with what is there.
func (v *verifierRun) checkIndex() {
	g := v.catalog
	for _, f := range g.unreadable() {
		if len(v.opt.Filters) == 0 {
			v.find(f)
		}
	}
	switch {
	case g.indexErr != nil:
		v.find(Finding{Problem: BadIndex, Detail: g.indexErr.Error()})
		return
	case g.index == nil:
		v.find(Finding{Problem: NoIndex})
		return
	}
	for _, hash := range slices.Sorted(maps.Keys(g.index.cached)) {
		s := g.index.nodes[hash]
		if _, ok := g.refs[hash]; !ok && matchAny(v.opt.Filters, s) {
			v.find(Finding{Problem: NotStored, Package: s.String(), Hash: hash, Detail: "the index says it is here"})
		}
	}
	for _, s := range g.packages() {
		if !g.index.cached[s.Hash] && matchAny(v.opt.Filters, s) {
			v.find(Finding{Problem: NotIndexed, Package: s.String(), Hash: s.Hash})
		}
	}
}

func (v *verifierRun) checkPackages(ctx context.Context) error {
	var chosen []*Spec
	for _, s := range v.catalog.packages() {
		if matchAny(v.opt.Filters, s) {
			chosen = append(chosen, s)
		}
	}
	v.report.Packages = len(chosen)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.cache.jobs)
	for _, s := range chosen {
		group.Go(func() error {
			if err := v.checkPackage(ctx, s); err != nil {
				return &PackageError{Package: s.String(), Err: err}
			}
			v.mu.Lock()
			v.done++
			done := v.done
			v.mu.Unlock()
			if v.opt.Progress != nil {
				v.opt.Progress(done, len(chosen))
			}
			return nil
		})
	}
	return group.Wait()
}

func (v *verifierRun) checkPackage(ctx context.Context, s *Spec) error {
	for _, d := range v.catalog.missing(s) {
		v.find(Finding{
			Problem: MissingDependency, Package: s.String(), Hash: s.Hash,
			Detail: fmt.Sprintf("%s/%s (%s)", d.Name, d.Hash[:min(7, len(d.Hash))], strings.Join(d.Types, ", ")),
		})
	}
	m, err := v.cache.reader.manifest(ctx, v.catalog.refs[s.Hash])
	if err != nil {
		return err // it could be read a moment ago
	}
	v.checkSignature(s, m)
	if m.doc == nil {
		data, err := specFile(ctx, v.cache.reader, m)
		if err != nil {
			return err
		}
		if want := metaOf(data).digest(); want != "" && want != m.archive.Digest {
			v.find(Finding{
				Problem: WrongDigest, Package: s.String(), Hash: s.Hash, Blob: m.archive.Digest,
				Detail: "the spec file says that the archive is " + want.String(),
			})
		}
	}
	v.mu.Lock()
	v.owners[m.archive.Digest] = s
	v.mu.Unlock()
	for _, b := range m.parts {
		if b == m.spec && m.doc != nil {
			continue // it is the manifest
		}
		if err := v.checkBlob(ctx, s, b); err != nil {
			return blobError(b.Digest, err)
		}
	}
	return nil
}

// checkBlob looks at a blob once; many packages share layers.
func (v *verifierRun) checkBlob(ctx context.Context, s *Spec, b Blob) error {
	v.mu.Lock()
	seen := v.blobs[b.Digest]
	if !seen {
		v.blobs[b.Digest] = true
		v.report.Blobs++
		v.report.Bytes += b.Size
	}
	v.mu.Unlock()
	if seen {
		return nil
	}
	f, err := v.inspect(ctx, b)
	if err != nil || f == nil {
		return err
	}
	f.Package, f.Hash, f.Blob = s.String(), s.Hash, b.Digest
	v.find(*f)
	return nil
}

// keysFor returns the keys that somebody trusts or, without them, the cache's
// own. It always returns some.
func (c *Cache) keysFor(ctx context.Context, trusted *Keys) (*Keys, error) {
	if trusted != nil {
		return trusted, nil
	}
	own, err := c.PublicKeys(ctx)
	if err != nil {
		return &Keys{}, err
	}
	return own, nil
}

func (v *verifierRun) checkSignature(s *Spec, m *manifest) {
	f := Finding{Problem: BadSignature, Package: s.String(), Hash: s.Hash, lenient: v.opt.Keys == nil}
	switch err := v.keys.check(m); {
	case err == nil:
		v.mu.Lock()
		v.report.Signed++
		v.mu.Unlock()
		return
	case errors.Is(err, errUnsigned):
		if f.Problem = Unsigned; f.lenient {
			return
		}
	case errors.Is(err, errUnknownSigner):
		if f.Problem = UnknownSigner; len(v.keys.ring) == 0 {
			return // nobody said what a signature should be
		}
	default:
		f.Detail, f.lenient = err.Error(), false
	}
	v.find(f)
}

// inspect returns what is wrong with a blob.
func (v *verifierRun) inspect(ctx context.Context, b Blob) (*Finding, error) {
	looker, ok := v.cache.reader.(stater)
	if ok {
		size, err := looker.stat(ctx, b)
		switch {
		case errors.Is(err, ErrNotFound):
			return &Finding{Problem: MissingBlob}, nil
		case err != nil:
			return nil, err
		case size >= 0 && b.Size > 0 && size != b.Size:
			return &Finding{Problem: WrongSize, Detail: fmt.Sprintf("%d bytes instead of %d", size, b.Size)}, nil
		}
	}
	if !v.opt.Deep {
		return nil, nil
	}
	body, err := v.cache.reader.open(ctx, b)
	if errors.Is(err, ErrNotFound) {
		return &Finding{Problem: MissingBlob}, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, verified(b, body))
	var damage *DamageError
	if errors.As(err, &damage) {
		return &Finding{Problem: WrongDigest, Detail: damage.Reason}, nil
	}
	return nil, err
}

// checkUnused finds blobs of a directory that nothing names.
func (v *verifierRun) checkUnused(ctx context.Context, d *directory) error {
	used, err := d.used(ctx)
	if err != nil {
		if isDamage(err) {
			return nil // found already
		}
		return err
	}
	return d.unused(used, func(name string, info fs.FileInfo) error {
		v.find(Finding{Problem: Unused, Detail: fmt.Sprintf("%s, %d bytes", name, info.Size())})
		return ctx.Err()
	})
}
