package buildcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// layout3 reads a directory of layout 3.
type layout3 struct {
	files files
}

// A v3Manifest is a manifest of layout 3.
type v3Manifest struct {
	Version int      `json:"version"`
	Data    []v3Blob `json:"data"`
}

// A v3Blob is one thing that a manifest names. The order of the fields is
// Spack's.
type v3Blob struct {
	ContentLength     int64  `json:"contentLength"`
	MediaType         string `json:"mediaType"`
	Compression       string `json:"compression"`
	ChecksumAlgorithm string `json:"checksumAlgorithm"`
	Checksum          string `json:"checksum"`
}

func (b v3Blob) blob() (Blob, error) {
	d := digest.NewDigestFromEncoded(digest.Algorithm(b.ChecksumAlgorithm), b.Checksum)
	if err := d.Validate(); err != nil {
		return Blob{}, fmt.Errorf("checksum %q: %w", d, err)
	}
	if b.ContentLength < 0 {
		return Blob{}, fmt.Errorf("%s has a length of %d", d, b.ContentLength)
	}
	return Blob{Digest: d, Size: b.ContentLength, MediaType: b.MediaType}, nil
}

func v3BlobOf(b Blob, compression string) v3Blob {
	return v3Blob{b.Size, b.MediaType, compression, b.Digest.Algorithm().String(), b.Digest.Encoded()}
}

// v3Path is where a blob is. Digests are validated before they get here.
func v3Path(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// encodeV3 writes a manifest as Spack does, in short lines: gpg cuts long ones.
func encodeV3(blobs ...v3Blob) ([]byte, error) {
	return json.MarshalIndent(v3Manifest{Version: 3, Data: blobs}, "", "")
}

// decodeV3 returns what a manifest names.
func decodeV3(raw []byte) ([]Blob, bool, error) {
	plain, wasSigned := withoutSignature(raw)
	var file v3Manifest
	if err := json.Unmarshal(plain, &file); err != nil {
		return nil, wasSigned, err
	}
	if file.Version != 3 {
		return nil, wasSigned, fmt.Errorf("it is of version %d", file.Version)
	}
	var blobs []Blob
	for _, entry := range file.Data {
		b, err := entry.blob()
		if err != nil {
			return nil, wasSigned, err
		}
		blobs = append(blobs, b)
	}
	return blobs, wasSigned, nil
}

func (l *layout3) list(ctx context.Context) ([]ref, error) {
	names, err := l.files.walk(ctx, v3Specs, v3Suffix)
	if errors.Is(err, ErrNoListing) {
		return listIndex(ctx, l, v3Key)
	}
	if err != nil {
		return nil, err
	}
	var refs []ref
	for _, name := range names {
		if hash, ok := hashIn(path.Base(name), v3Suffix); ok {
			refs = append(refs, ref{hash, name})
		}
	}
	return refs, nil
}

// listIndex takes the index's word for what a cache holds.
func listIndex(ctx context.Context, r reader, key func(*Spec) string) ([]ref, error) {
	x, err := r.index(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNoListing
	}
	if err != nil {
		return nil, err
	}
	var refs []ref
	for hash := range x.cached {
		refs = append(refs, ref{hash, key(x.nodes[hash])})
	}
	return refs, nil
}

func (l *layout3) manifest(ctx context.Context, r ref) (*manifest, error) {
	body, info, err := l.files.open(ctx, r.key)
	if err != nil {
		return nil, err
	}
	raw, err := limited(body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.key, err)
	}
	m := &manifest{raw: raw, date: info.modified}
	if m.parts, m.signed, err = decodeV3(raw); err != nil {
		return nil, damaged(r.key, "%v", err)
	}
	for _, b := range m.parts {
		switch {
		case strings.HasPrefix(b.MediaType, archiveTypePrefix):
			m.archive = b
		case strings.HasPrefix(b.MediaType, specTypePrefix):
			m.spec = b
		}
	}
	if m.archive.Digest == "" || m.spec.Digest == "" {
		return nil, damaged(r.key, "it does not name an archive and a spec file")
	}
	return m, nil
}

func (l *layout3) index(ctx context.Context) (*index, error) {
	blob, err := l.indexBlob(ctx)
	if err != nil {
		return nil, err
	}
	body, err := l.open(ctx, blob)
	if err != nil {
		return nil, damaged(v3Index, "its %v", err)
	}
	defer body.Close()
	x, err := readIndex(verified(blob, body))
	if err != nil {
		return nil, damaged(v3Index, "%v", err)
	}
	x.blob = blob
	return x, nil
}

func (l *layout3) indexBlob(ctx context.Context) (Blob, error) {
	body, _, err := l.files.open(ctx, v3Index)
	if err != nil {
		return Blob{}, err
	}
	raw, err := limited(body, maxManifest)
	if err != nil {
		return Blob{}, fmt.Errorf("%s: %w", v3Index, err)
	}
	blobs, _, err := decodeV3(raw)
	if err != nil {
		return Blob{}, damaged(v3Index, "%v", err)
	}
	for _, b := range blobs {
		if strings.HasPrefix(b.MediaType, dbTypePrefix) {
			return b, nil
		}
	}
	return Blob{}, damaged(v3Index, "it names no index")
}

func (l *layout3) open(ctx context.Context, b Blob) (io.ReadCloser, error) {
	body, _, err := l.files.open(ctx, v3Path(b.Digest))
	return body, err
}

func (l *layout3) stat(ctx context.Context, b Blob) (int64, error) {
	info, err := l.files.stat(ctx, v3Path(b.Digest))
	return info.size, err
}
