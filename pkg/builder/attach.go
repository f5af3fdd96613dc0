package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"oras.land/oras-go/v2/errdef"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
	"github.com/pdidev/pdibuild/internal/registry"
)

// An Attachment is a document about an image, such as a bill of materials.
type Attachment struct {
	// Type says what it is: the media type of its content.
	Type    string
	Content []byte
	// Annotations of its manifest.
	Annotations map[string]string
}

// Attach stores an attachment in a registry as a referrer of an image that is
// there: destination is the image's name, subject the digest of its manifest.
// In registries without the referrers API it is listed by the tag that the
// specification names, sha256-HEX. It returns the digest of the attachment's
// manifest: the same content is stored once.
func (b *Builder) Attach(ctx context.Context, destination, subject string, a Attachment) (string, error) {
	name := strings.TrimPrefix(destination, "docker://")
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", &InputError{Subject: "attach to " + destination, Err: err, Hint: "a destination looks like registry.example.org/group/name:tag"}
	}
	d, err := b.attach(ctx, named, subject, a)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", imagetransfer.Error("attach to", name, err)
	}
	return d.String(), nil
}

func (b *Builder) attach(ctx context.Context, named reference.Named, subject string, a Attachment) (digest.Digest, error) {
	repo, err := b.repository(ctx, named)
	if err != nil {
		return "", err
	}
	of, err := repo.Resolve(ctx, subject)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", subject, err)
	}
	content := descriptorOf(a.Type, a.Content)
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: a.Type,
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{content}, Subject: &of, Annotations: a.Annotations,
	}
	m.Config.Data = nil
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	for _, blob := range []struct {
		v1.Descriptor
		data []byte
	}{{m.Config, []byte("{}")}, {content, a.Content}, {descriptorOf(v1.MediaTypeImageManifest, raw), raw}} {
		err := repo.Push(ctx, blob.Descriptor, strings.NewReader(string(blob.data)))
		if err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
			return "", err
		}
	}
	return digest.FromBytes(raw), nil
}

func descriptorOf(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// repository talks to a registry as the rest of this package does: with the
// same credentials, certificates and registries.conf.
func (b *Builder) repository(ctx context.Context, named reference.Named) (*remote.Repository, error) {
	endpoints, err := b.remote.Endpoints(b.remote.SystemContext(""), named, nil)
	if err != nil {
		return nil, err
	}
	client, err := registry.Connect(ctx, endpoints[len(endpoints)-1])
	if err != nil {
		return nil, err
	}
	return &remote.Repository{
		Client: client, Reference: orasregistry.Reference{Registry: reference.Domain(named), Repository: reference.Path(named)},
		PlainHTTP: client.Plain(), SkipReferrersGC: true,
	}, nil
}
