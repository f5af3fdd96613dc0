package buildcache

import (
	"path"
	"regexp"
	"strings"
)

// The names of things, as lib/spack/spack/url_buildcache.py and
// lib/spack/spack/oci of Spack 1.x make them.
const (
	v3Manifests = "v3/manifests"
	v3Specs     = "v3/manifests/spec"
	v3Index     = "v3/manifests/index/index.manifest.json"
	v3Layout    = "v3/layout.json"
	v3Suffix    = ".spec.manifest.json"

	v2Root  = "build_cache"
	v2Index = "build_cache/index.json"

	tagSuffix = ".spack"
	indexTag  = "index.spack"
	// maxTag is how long a tag may be.
	maxTag = 128
)

const (
	archiveType = "application/vnd.spack.install.v2.tar+gzip"
	specType    = "application/vnd.spack.spec.v5+json"
	dbType      = "application/vnd.spack.db.v8+json"

	specTypePrefix    = "application/vnd.spack.spec."
	archiveTypePrefix = "application/vnd.spack.install."
	dbTypePrefix      = "application/vnd.spack.db."
)

var (
	impolite = regexp.MustCompile(`[^A-Za-z0-9_+.-]`)
	notInTag = regexp.MustCompile(`[^A-Za-z0-9_.-]`)
)

// v3Key is where a package's manifest is.
func v3Key(s *Spec) string {
	file := impolite.ReplaceAllString(s.Name+"-"+s.Version+"-"+s.Hash, "_")
	return path.Join(v3Specs, s.Name, file+v3Suffix)
}

// tagOf is a package's tag.
func tagOf(s *Spec) string {
	tag := notInTag.ReplaceAllString(s.Name+"-"+s.Version+"-"+s.Hash+tagSuffix, "_")
	if len(tag) > maxTag {
		return tag[:maxTag/2] + tag[len(tag)-maxTag/2:]
	}
	return tag
}

// v2Key is where the spec file of a package is, signed or not.
func v2Key(s *Spec, suffix string) string {
	compiler := strings.Replace(s.Compiler, "@", "-", 1)
	file := impolite.ReplaceAllString(s.Arch()+"-"+compiler+"-"+s.Name+"-"+s.Version+"-"+s.Hash, "_")
	return path.Join(v2Root, file+suffix)
}

// v2Archive is where the archive of a package is whose spec file is at key.
func v2Archive(key string, s *Spec) string {
	stem := path.Base(key)
	for _, suffix := range v2Suffixes() {
		stem = strings.TrimSuffix(stem, suffix)
	}
	arch := impolite.ReplaceAllString(s.Arch(), "_")
	nameVersion := impolite.ReplaceAllString(s.Name+"-"+s.Version, "_")
	compiler := strings.TrimSuffix(strings.TrimPrefix(stem, arch+"-"), "-"+nameVersion+"-"+s.Hash)
	return path.Join(v2Root, arch, compiler, nameVersion, stem+tagSuffix)
}

// v2Suffixes are those of spec files, the signed one first.
func v2Suffixes() []string { return []string{".spec.json.sig", ".spec.json"} }

// hashIn finds the hash at the end of a file's name or a tag.
func hashIn(name, suffix string) (string, bool) {
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return "", false
	}
	hash := stem[strings.LastIndexByte(stem, '-')+1:]
	return hash, hashRE.MatchString(hash)
}
