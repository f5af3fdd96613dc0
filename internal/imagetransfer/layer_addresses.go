package imagetransfer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/pkg/failure"
)

// A checkedReference is an image whose layers, and configuration, are where the
// image is. A manifest can name addresses for them (urls), at which the library
// would look first, with the network of this host: the image's maker could have it
// ask servers that only this host can reach.
type checkedReference struct {
	types.ImageReference
}

// Checked returns ref itself where addresses are allowed, or nothing follows
// them.
func (c *Client) Checked(ref types.ImageReference) types.ImageReference {
	if c.AllowLayerURLs || !slices.Contains([]string{"docker", "oci", "oci-archive"}, ref.Transport().Name()) {
		return ref
	}
	return checkedReference{ref}
}

// NewImageSource opens the image.
func (r checkedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	if err := checkLayerURLs(ctx, src, sys); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// checkLayerURLs looks at the manifest, of an index at the one for the platform.
func checkLayerURLs(ctx context.Context, src types.ImageSource, sys *types.SystemContext) error {
	raw, mediaType, err := src.GetManifest(ctx, nil)
	for depth := 0; err == nil && manifest.MIMETypeIsMultiImage(mediaType); depth++ {
		var list manifest.List
		var instance digest.Digest
		if list, err = manifest.ListFromBlob(raw, mediaType); err != nil {
			return err
		}
		if instance, err = list.ChooseInstance(sys); err != nil {
			return err
		}
		if depth == maxIndexes {
			return errors.New("indexes lead to indexes without end")
		}
		raw, mediaType, err = src.GetManifest(ctx, &instance)
	}
	if err != nil {
		return err
	}
	m, err := manifest.FromBlob(raw, manifest.NormalizedMIMEType(mediaType))
	if err != nil {
		return err
	}
	for i, l := range m.LayerInfos() {
		if err := layerURLError(fmt.Sprintf("layer %d", i+1), l.BlobInfo); err != nil {
			return err
		}
	}
	return layerURLError("the configuration", m.ConfigInfo())
}

// maxIndexes is how often an index may lead to another one.
const maxIndexes = 4

var errLayerURL = errors.New("the manifest names addresses")

func layerURLError(what string, blob types.BlobInfo) error {
	if len(blob.URLs) == 0 {
		return nil
	}
	at := blob.URLs[0]
	if u, err := url.Parse(at); err == nil && u.Host != "" {
		at = u.Host
	}
	return &failure.InputError{
		Subject: what + " (" + blob.Digest.String() + ")", Err: fmt.Errorf("it would be fetched from %s: %w", at, errLayerURL),
		Hint: "if you trust the image and that server, allow layers from other addresses", Code: failure.LayerAddresses,
	}
}
