package builder

import (
	"context"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
)

// Registries says how registries are talked to. The zero value uses the
// files that podman, buildah and docker use.
type Registries = imagetransfer.Registries

// AskRegistry asks a registry whether it is one, as a pull or push would: with
// the certificates, proxies and settings that these use. Credentials are not
// sent. A name that begins with http:// is asked without TLS, too.
func AskRegistry(ctx context.Context, registries Registries, name string) error {
	return imagetransfer.Ask(ctx, registries, name)
}

// RegistryHost is the HOST or HOST:PORT of a registry's name, which may have a
// scheme before it and a path behind it; "" if there is none.
func RegistryHost(name string) string { return imagetransfer.Host(name) }
