package buildcache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
)

// v2Keys holds the public keys of a directory of layout 2.
const v2Keys = "build_cache/_pgp"

// Keys are public keys that signatures are checked with. A nil *Keys checks
// nothing.
type Keys struct {
	ring openpgp.EntityList
}

// ReadKeys reads public keys, as 'gpg --export' writes them, armored or not.
func ReadKeys(files ...[]byte) (*Keys, error) {
	keys := &Keys{}
	for _, data := range files {
		read := openpgp.ReadKeyRing
		if bytes.Contains(data, []byte("-----BEGIN PGP")) {
			read = openpgp.ReadArmoredKeyRing
		}
		ring, err := read(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read public keys: %w", err)
		}
		keys.ring = append(keys.ring, ring...)
	}
	return keys, nil
}

// Names returns who the keys are of.
func (k *Keys) Names() []string {
	var names []string
	for _, e := range k.ring {
		names = append(names, signerName(e))
	}
	return names
}

func signerName(e *openpgp.Entity) string {
	id := strings.ToUpper(fmt.Sprintf("%x", e.PrimaryKey.Fingerprint))
	if identity := e.PrimaryIdentity(); identity != nil {
		return identity.Name + " " + id
	}
	return id
}

// The reasons for which a package is not what somebody has signed.
var (
	errUnsigned      = errors.New("it is not signed")
	errUnknownSigner = errors.New("who signed it is not among the known keys")
)

// check says whether a manifest, or a spec file of layout 2, has a good
// signature. What is used of it has to be what was signed.
func (k *Keys) check(m *manifest) error {
	used, isSigned := withoutSignature(m.raw)
	if !isSigned {
		return errUnsigned
	}
	block, _ := clearsign.Decode(m.raw)
	if block == nil {
		return errors.New("its signature can't be read")
	}
	if !bytes.Equal(bytes.TrimSpace(used), bytes.TrimSpace(block.Plaintext)) {
		return errors.New("what is signed is not all of it")
	}
	_, err := block.VerifySignature(k.ring, nil)
	if errors.Is(err, pgperrors.ErrUnknownIssuer) {
		return errUnknownSigner
	}
	if err != nil {
		return fmt.Errorf("its signature is not good: %w", err)
	}
	return nil
}

// require is check for those who have no use for other packages.
func (k *Keys) require(key string, m *manifest) error {
	if k == nil {
		return nil
	}
	if err := k.check(m); err != nil {
		return damaged(path.Base(key), "%v", err)
	}
	return nil
}

// PublicKeys returns the keys that the cache itself holds, which say whether
// its packages have changed since somebody signed them, but not who that was:
// whoever can write packages there can write keys. Registries have none.
func (c *Cache) PublicKeys(ctx context.Context) (*Keys, error) {
	var files [][]byte
	var err error
	switch r := c.reader.(type) {
	case *directory:
		files, err = r.publicKeys(ctx)
	case *layout3:
		files, err = r.publicKeys(ctx)
	case *layout2:
		files, err = r.publicKeys(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", c, err)
	}
	return ReadKeys(files...)
}

// fingerprints reads an index of keys.
func fingerprints(data []byte) ([]string, error) {
	var file struct {
		Keys map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("read the index of keys: %w", err)
	}
	var all []string
	for name := range file.Keys {
		if nameRE.MatchString(name) {
			all = append(all, name)
		}
	}
	return all, nil
}

func (l *layout3) publicKeys(ctx context.Context) ([][]byte, error) {
	return listedKeys("keys.manifest.json", ".key.manifest.json", func(name string) ([]byte, error) {
		return l.named(ctx, path.Join(v3Keys, name))
	})
}

// listedKeys reads the keys that an index names by their fingerprints. Without
// an index there are none.
func listedKeys(index, suffix string, read func(name string) ([]byte, error)) ([][]byte, error) {
	data, err := read(index)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := fingerprints(data)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, name := range names {
		key, err := read(name + suffix)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// named reads the only thing that a manifest names.
func (l *layout3) named(ctx context.Context, name string) ([]byte, error) {
	body, _, err := l.files.open(ctx, name)
	if err != nil {
		return nil, err
	}
	raw, err := limited(body, maxManifest)
	if err != nil {
		return nil, err
	}
	blobs, _, err := decodeV3(raw)
	if err != nil || len(blobs) == 0 {
		return nil, damaged(name, "it names nothing")
	}
	if body, err = l.open(ctx, blobs[0]); err != nil {
		return nil, blobError(blobs[0].Digest, err)
	}
	return readBlob(body, blobs[0], maxManifest)
}

func (l *layout2) publicKeys(ctx context.Context) ([][]byte, error) {
	return listedKeys("index.json", ".pub", func(name string) ([]byte, error) {
		body, _, err := l.files.open(ctx, path.Join(v2Keys, name))
		if err != nil {
			return nil, err
		}
		return limited(body, maxManifest)
	})
}
