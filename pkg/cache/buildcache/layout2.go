package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// layout2 reads a directory of layout 2, which Spack before 1.0 made.
type layout2 struct {
	files files
}

func (l *layout2) list(ctx context.Context) ([]ref, error) {
	names, err := l.files.walk(ctx, v2Root, v2Suffixes()...)
	if errors.Is(err, ErrNoListing) {
		return listIndex(ctx, l, func(s *Spec) string { return v2Key(s, v2Suffixes()[0]) })
	}
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, suffix := range v2Suffixes() { // of two, the signed one
		for _, name := range names {
			if hash, ok := hashIn(path.Base(name), suffix); ok && found[hash] == "" {
				found[hash] = name
			}
		}
	}
	var refs []ref
	for hash, name := range found {
		refs = append(refs, ref{hash, name})
	}
	return refs, nil
}

func (l *layout2) manifest(ctx context.Context, r ref) (*manifest, error) {
	body, info, err := l.files.open(ctx, r.key)
	var refused *StatusError
	if unsigned := strings.TrimSuffix(r.key, ".sig"); unsigned != r.key && (errors.Is(err, ErrNotFound) || errors.As(err, &refused)) {
		r.key = unsigned // the index does not say which
		body, info, err = l.files.open(ctx, r.key)
	}
	if err != nil {
		return nil, err
	}
	raw, err := limited(body, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.key, err)
	}
	doc, err := decodeDocument(raw)
	if err != nil {
		return nil, damaged(r.key, "%v", err)
	}
	meta := metaOf(raw)
	m := &manifest{raw: raw, doc: raw, date: info.modified}
	_, m.signed = withoutSignature(raw)
	m.spec = blobOf(raw, specType)
	m.spec.path = r.key
	m.archive = Blob{Digest: meta.digest(), Size: meta.Size, MediaType: archiveType, path: v2Archive(r.key, doc.root())}
	if m.archive.Digest == "" {
		return nil, damaged(r.key, "it does not say the digest of its archive")
	}
	if m.archive.Size == 0 { // older ones do not say
		if info, err := l.files.stat(ctx, m.archive.path); err == nil {
			m.archive.Size = max(0, info.size)
		}
	}
	m.parts = []Blob{m.archive, m.spec}
	return m, nil
}

func (l *layout2) index(ctx context.Context) (*index, error) {
	body, _, err := l.files.open(ctx, v2Index)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	x, err := readIndex(body)
	if err != nil {
		return nil, damaged(v2Index, "%v", err)
	}
	return x, nil
}

func (l *layout2) open(ctx context.Context, b Blob) (io.ReadCloser, error) {
	body, _, err := l.files.open(ctx, b.path)
	return body, err
}

func (l *layout2) stat(ctx context.Context, b Blob) (int64, error) {
	info, err := l.files.stat(ctx, b.path)
	return info.size, err
}
