package spack

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Where a binary cache has its index: layout 3, layout 2, and the tag in an
// OCI registry. In layout 3 it is a manifest, whose Index blob is what
// ReadIndex reads; in a registry, that is the only layer, uncompressed in
// spite of its media type.
const (
	IndexManifestPath = "v3/manifests/index/index.manifest.json"
	IndexPathLayout2  = "build_cache/index.json"
	IndexTag          = "index.spack"
)

// An Index lists what a binary cache has.
type Index struct {
	// Version is that of the format.
	Version int
	// Packages are what the cache has, by name, version and hash.
	Packages []*Spec
	// Specs are these and what they depend on.
	Specs Graph
}

// ReadIndex reads the index of a binary cache of any layout.
func ReadIndex(r io.Reader) (*Index, error) {
	x := &Index{Specs: Graph{}}
	version, err := readRecords(r, func(hash string, j *recordJSON) error {
		s, err := j.spec(hash)
		if err != nil {
			return err
		}
		x.Specs[s.Hash] = s
		if j.InBuildcache != nil && *j.InBuildcache {
			x.Packages = append(x.Packages, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("index of a binary cache: %w", err)
	}
	x.Version = version
	slices.SortFunc(x.Packages, compareSpecs)
	return x, nil
}

// ManifestPath is where a cache of layout 3 has the manifest of a package.
func ManifestPath(s *Spec) string {
	file := inFileName(fmt.Sprintf("%s-%s-%s.spec.manifest.json", s.Name, s.Version, s.Hash), '+')
	return "v3/manifests/spec/" + s.Name + "/" + file
}

// Tag is the tag of a package's image in a registry.
func Tag(s *Spec) string {
	const longest = 128
	tag := inFileName(fmt.Sprintf("%s-%s-%s.spack", s.Name, s.Version, s.Hash), '_')
	if len(tag) > longest {
		return tag[:longest/2] + tag[len(tag)-longest/2:]
	}
	return tag
}

// TagHash returns the hash of the package that a tag is for; tags may be of
// other things.
func TagHash(tag string) (hash string, ok bool) {
	tag, ok = strings.CutSuffix(tag, ".spack")
	if i := strings.LastIndexByte(tag, '-'); ok && i > 0 && validHash(tag[i+1:]) {
		return tag[i+1:], true
	}
	return "", false
}

// inFileName replaces what is not a letter, a digit, or one of "_.-" and also.
func inFileName(s string, also rune) string {
	return strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || r == '_' || r == '.' || r == '-' || r == also {
			return r
		}
		return '_'
	}, s)
}
