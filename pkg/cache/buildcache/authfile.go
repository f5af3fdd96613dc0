package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"oras.land/oras-go/v2/registry/remote/credentials"
)

// AuthFiles looks for credentials in files as `podman login` and `docker
// login` write them, credential helpers included; the first one that knows the
// host wins. An entry for HOST/PATH goes before one for HOST. Files that do
// not exist are passed over.
func AuthFiles(files ...string) CredentialFunc {
	return func(ctx context.Context, host, path string) (Credential, error) {
		for _, file := range files {
			if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				continue
			}
			cred, err := fromAuthFile(ctx, file, host, path)
			if err != nil {
				return Credential{}, fmt.Errorf("read credentials from %s: %w", file, err)
			}
			if cred != (Credential{}) {
				return cred, nil
			}
		}
		return Credential{}, nil
	}
}

func fromAuthFile(ctx context.Context, file, host, path string) (Credential, error) {
	store, err := credentials.NewStore(file, credentials.StoreOptions{})
	if err != nil {
		return Credential{}, err
	}
	for key := strings.TrimSuffix(host+"/"+path, "/"); ; {
		address := key
		if key == host {
			address = credentials.ServerAddressFromHostname(host)
		}
		found, err := store.Get(ctx, address)
		if err != nil {
			return Credential{}, err
		}
		if found.Username != "" || found.RefreshToken != "" {
			return Credential{Username: found.Username, Password: found.Password, IdentityToken: found.RefreshToken}, nil
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return Credential{}, nil
		}
		key = key[:i]
	}
}
