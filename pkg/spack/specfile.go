package spack

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
)

// Versions of spec files that can be read: those of Spack 0.18 and later.
const (
	firstSpecVersion = 3
	lastSpecVersion  = 5
)

// A SpecFile describes one package and all that it depends on. A binary cache
// has one for each package, and an install tree has .spack/spec.json.
type SpecFile struct {
	// Spec is the package.
	Spec *Spec
	// Specs are it and what it depends on.
	Specs Graph
	// Signed says that there is a signature. It is not looked at.
	Signed bool
	// Package is the archive with the package where the file says so: Size is
	// 0 if only the checksum is known.
	Package Blob
}

type specFileJSON struct {
	Spec struct {
		Meta struct {
			Version int `json:"version"`
		} `json:"_meta"`
		Nodes []*specJSON `json:"nodes"`
	} `json:"spec"`
	Checksum struct {
		Algorithm string `json:"hash_algorithm"`
		Hash      string `json:"hash"`
	} `json:"binary_cache_checksum"`
	Size        int64  `json:"archive_size"`
	Compression string `json:"archive_compression"`
}

// ParseSpecFile reads a spec.json of an install tree or a cache, the spec blob
// of a cache of layout 3, or the configuration of a package's image in a
// registry. They may be signed, or compressed with gzip.
func ParseSpecFile(name string, data []byte) (*SpecFile, error) {
	data, err := gunzip(data)
	if err != nil {
		return nil, &Error{File: name, Message: err.Error()}
	}
	text, signed := clearText(data)
	var j specFileJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, jsonError(name, text, err)
	}
	if v := j.Spec.Meta.Version; v < firstSpecVersion || v > lastSpecVersion {
		return nil, fmt.Errorf("%s: has version %d of the format; %d to %d are known", name, v, firstSpecVersion, lastSpecVersion)
	}
	f := &SpecFile{Specs: Graph{}, Signed: signed}
	for _, node := range j.Spec.Nodes {
		if node == nil {
			return nil, fmt.Errorf("%s: a spec is null", name)
		}
		s, err := node.spec("")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if f.Spec == nil {
			f.Spec = s
		}
		f.Specs[s.Hash] = s
	}
	if f.Spec == nil {
		return nil, fmt.Errorf("%s: has no spec", name)
	}
	if c := j.Checksum; c.Hash != "" {
		if !validChecksum(c.Algorithm, c.Hash) || j.Size < 0 {
			return nil, fmt.Errorf("%s: the checksum of the package is %s:%q", name, shorten(c.Algorithm), shorten(c.Hash))
		}
		f.Package = Blob{Size: j.Size, Compression: j.Compression, Algorithm: c.Algorithm, Checksum: c.Hash}
	}
	return f, nil
}

// gunzip decompresses what is compressed.
func gunzip(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(z, maxLock+1)); err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
	}
	if len(data) > maxLock {
		return nil, fmt.Errorf("is larger than %d bytes", maxLock)
	}
	return data, nil
}
