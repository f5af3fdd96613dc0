package buildcache

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// A ref is a package that a cache says it holds.
type ref struct {
	hash string
	key  string // its manifest's path or tag
}

// A manifest says what a package in a cache consists of.
type manifest struct {
	raw       []byte // as stored
	mediaType string // of raw, in a registry
	signed    bool

	archive Blob
	spec    Blob   // the spec file
	doc     []byte // the spec file, where it is the manifest
	parts   []Blob // everything, archive and spec included
	date    time.Time
}

// A reader is one kind of cache.
type reader interface {
	// list returns the packages that have a manifest.
	list(ctx context.Context) ([]ref, error)
	// manifest reads the one of a package.
	manifest(ctx context.Context, r ref) (*manifest, error)
	// index reads the index. ErrNotFound says that there is none.
	index(ctx context.Context) (*index, error)
	// open opens a blob. Who reads it checks it.
	open(ctx context.Context, b Blob) (io.ReadCloser, error)
}

// A content opens what is to be written, once per attempt.
type content func() (io.ReadCloser, error)

// A writer is a cache that can be changed.
type writer interface {
	// stat tells the size of a blob; ErrNotFound says that it is not there.
	stat(ctx context.Context, b Blob) (int64, error)
	// put stores a blob, all of it or nothing, and checks it.
	put(ctx context.Context, b Blob, from content) error
	// commit stores a manifest, whose blobs are there.
	commit(ctx context.Context, r ref, m *manifest) error
	// putIndex replaces the index by what is in the file.
	putIndex(ctx context.Context, b Blob, from content) error
}

// A remover is a cache that packages can be removed from.
type remover interface {
	// remove makes a package disappear. What it consisted of stays.
	remove(ctx context.Context, r ref) error
}

// A sweeper is a cache that does not remove by itself what nothing names.
type sweeper interface {
	// sweep removes what no manifest but those of gone names and was not
	// touched since before, and returns how much that was.
	sweep(ctx context.Context, gone []ref, before time.Time, dryRun bool) (blobs int, bytes int64, err error)
}

// A specMeta is what spec files say about archives, in layout 2 and
// registries.
type specMeta struct {
	Checksum struct {
		Algorithm string `json:"hash_algorithm"`
		Hash      string `json:"hash"`
	} `json:"binary_cache_checksum"`
	Size      int64  `json:"archive_size"`
	Timestamp string `json:"archive_timestamp"`
}

// metaOf reads them from a spec file that is not compressed; none is fine.
func metaOf(data []byte) specMeta {
	data, _ = withoutSignature(data)
	var meta specMeta
	_ = json.Unmarshal(data, &meta) // whoever needs the spec reports what is wrong with it
	return meta
}

// digest returns the archive's, "" if it is not known.
func (m specMeta) digest() digest.Digest {
	d := digest.NewDigestFromEncoded(digest.Algorithm(m.Checksum.Algorithm), m.Checksum.Hash)
	if d.Validate() != nil {
		return ""
	}
	return d
}

func (m specMeta) date() time.Time {
	t, err := time.Parse(time.RFC3339Nano, m.Timestamp)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// specFile reads the spec file of a package, which is small.
func specFile(ctx context.Context, r reader, m *manifest) ([]byte, error) {
	if m.doc != nil {
		return m.doc, nil
	}
	body, err := r.open(ctx, m.spec)
	if err != nil {
		return nil, blobError(m.spec.Digest, err)
	}
	data, err := readBlob(body, m.spec, maxDocument)
	if err != nil {
		return nil, blobError(m.spec.Digest, err)
	}
	return data, nil
}

// load reads the manifest and the spec file of a package, and checks that they
// are of that package.
func load(ctx context.Context, r reader, p ref) (*manifest, *document, error) {
	m, err := r.manifest(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	data, err := specFile(ctx, r, m)
	if err != nil {
		return m, nil, err
	}
	doc, err := decodeDocument(data)
	if err != nil {
		return m, nil, damaged(p.key, "%v", err)
	}
	if doc.root().Hash != p.hash {
		return m, nil, damaged(p.key, "its spec file is of %s", doc.root())
	}
	if m.date.IsZero() {
		m.date = metaOf(data).date()
	}
	return m, doc, nil
}

// limited reads a text of at most limit bytes and closes it.
func limited(r io.ReadCloser, limit int64) ([]byte, error) {
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is longer than %d bytes", limit)
	}
	return data, nil
}
