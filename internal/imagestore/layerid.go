package imagestore

import "github.com/opencontainers/go-digest"

// LayerID is the id that the image library gives to a layer with this digest on
// top of parent ("" for the lowest one), whoever makes it: podman, buildah and
// pdibuild then find one another's layers and copy nothing. See layerID in its
// storage/storage_dest.go; the other form there, of a layer that is known by its
// table of contents alone, is for layers without a digest.
func LayerID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.Canonical.FromString(parent + "+" + diffID.Encoded()).Encoded()
}
