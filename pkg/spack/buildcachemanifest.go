package spack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// maxManifest is the largest manifest.
const maxManifest = 1 << 20

// A Manifest says which blobs make up something in a cache of layout 3: a
// package and its spec, or the index.
type Manifest struct {
	Version int
	// Signed says that there is a signature. It is not looked at.
	Signed bool
	Blobs  []Blob
}

// A Blob is a file that is named by its checksum.
type Blob struct {
	Size        int64
	MediaType   string
	Compression string // gzip or none
	Algorithm   string // sha256
	Checksum    string // in hexadecimal digits
}

// Path is where a cache of layout 3 has the blob.
func (b Blob) Path() string {
	return "blobs/" + b.Algorithm + "/" + b.Checksum[:min(2, len(b.Checksum))] + "/" + b.Checksum
}

// Digest is the checksum as registries have it.
func (b Blob) Digest() string { return b.Algorithm + ":" + b.Checksum }

// Package is the archive of an installed package.
func (m *Manifest) Package() (Blob, bool) {
	return m.find("application/vnd.spack.install.v", ".tar+gzip")
}

// Spec is what ParseSpecFile reads.
func (m *Manifest) Spec() (Blob, bool) { return m.find("application/vnd.spack.spec.v", "+json") }

// Index is what ReadIndex reads.
func (m *Manifest) Index() (Blob, bool) { return m.find("application/vnd.spack.db.v", "+json") }

// find returns the first blob of a media type of any version.
func (m *Manifest) find(prefix, suffix string) (Blob, bool) {
	for _, b := range m.Blobs {
		if strings.HasPrefix(b.MediaType, prefix) && strings.HasSuffix(b.MediaType, suffix) {
			return b, true
		}
	}
	return Blob{}, false
}

// ParseManifest reads a manifest, signed or not. Name stands for it in
// messages.
func ParseManifest(name string, data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, &Error{File: name, Message: fmt.Sprintf("is larger than %d bytes", maxManifest)}
	}
	text, signed := clearText(data)
	var j struct {
		Version int `json:"version"`
		Data    []struct {
			Size        int64  `json:"contentLength"`
			MediaType   string `json:"mediaType"`
			Compression string `json:"compression"`
			Algorithm   string `json:"checksumAlgorithm"`
			Checksum    string `json:"checksum"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, jsonError(name, text, err)
	}
	if j.Version != 3 {
		return nil, fmt.Errorf("%s: is not a manifest of layout 3 (its version is %d)", name, j.Version)
	}
	m := &Manifest{Version: j.Version, Signed: signed}
	for _, d := range j.Data {
		b := Blob(d)
		if !validChecksum(b.Algorithm, b.Checksum) || b.Size < 0 {
			return nil, fmt.Errorf("%s: there is a blob of %d bytes with the checksum %q", name, b.Size, shorten(b.Digest()))
		}
		m.Blobs = append(m.Blobs, b)
	}
	return m, nil
}

// validChecksum says that a checksum can be part of a path.
func validChecksum(algorithm, sum string) bool {
	length := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	return len(sum) == length && length > 0 && !strings.ContainsFunc(sum, func(r rune) bool {
		return (r < 'a' || r > 'f') && (r < '0' || r > '9')
	})
}

// clearText takes a text out of its PGP signature. It is not verified.
func clearText(data []byte) (text []byte, signed bool) {
	rest, ok := bytes.CutPrefix(data, []byte("-----BEGIN PGP SIGNED MESSAGE-----"))
	if !ok {
		return data, false
	}
	rest = bytes.ReplaceAll(rest, []byte("\r\n"), []byte("\n"))
	_, text, _ = bytes.Cut(rest, []byte("\n\n"))
	text, _, _ = bytes.Cut(text, []byte("\n-----BEGIN PGP SIGNATURE-----"))
	text = bytes.TrimPrefix(text, []byte("- "))
	return bytes.ReplaceAll(text, []byte("\n- "), []byte("\n")), true
}
