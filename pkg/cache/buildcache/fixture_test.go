package buildcache

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// The caches that tests start from are written here by hand, not by the code
// under test. The formats are those that Spack 1.x documents and writes:
// lib/spack/spack/url_buildcache.py (layouts 2 and 3), lib/spack/spack/spec.py
// (spec files, to_node_dict) and lib/spack/spack/database.py (index). That the
// real Spack agrees is tested in spack_test.go.

// A pkg is a package of a test cache.
type pkg struct {
	name, version string
	external      bool
	deps          map[string]string // name → types, with commas
	size          int               // of the file in it
}

// hash is a hash that looks like Spack's.
func (p pkg) hash() string {
	sum := sha256.Sum256([]byte(p.name + "@" + p.version))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}

func (p pkg) ref() string { return p.name + "@" + p.version + "/" + p.hash()[:7] }

// world is a small set of packages: an application with libraries, one of which
// is needed only to build another, and what came from the host.
func world() map[string]pkg {
	all := map[string]pkg{}
	for _, p := range []pkg{
		{name: "gcc", version: "12.2.0", external: true},
		{name: "zlib", version: "1.3.1", deps: map[string]string{"gcc": "build"}, size: 30_000},
		{name: "ninja", version: "1.12", deps: map[string]string{"gcc": "build"}, size: 5_000},
		{name: "hdf5", version: "1.14.3", deps: map[string]string{"gcc": "build", "ninja": "build", "zlib": "build,link"}, size: 400_000},
		{name: "app", version: "git.main=2.0", deps: map[string]string{"gcc": "build", "hdf5": "build,link,run"}, size: 3_000},
		{name: "py-tool", version: "0.1", deps: map[string]string{"zlib": "run"}, size: 100},
	} {
		all[p.name] = p
	}
	return all
}

// stored are the names of the packages of world that a cache holds.
func stored() []string { return []string{"app", "hdf5", "ninja", "py-tool", "zlib"} }

// node is a package as a spec file of version 5 has it.
func node(p pkg) map[string]any {
	all := world()
	n := map[string]any{
		"name": p.name, "version": p.version, "hash": p.hash(),
		"arch":        map[string]any{"platform": "linux", "platform_os": "debian12", "target": "x86_64_v3"},
		"namespace":   "builtin",
		"parameters":  map[string]any{"build_system": "generic", "cflags": []any{}, "mpi": p.name == "hdf5", "api": []any{"v18", "v114"}},
		"annotations": map[string]any{"original_specfile_version": 5},
	}
	if p.external {
		n["external"] = map[string]any{"path": "/usr", "module": nil, "extra_attributes": map[string]any{}}
	}
	var deps []any
	for _, name := range sorted(p.deps) {
		virtuals := []string{}
		if name == "gcc" {
			virtuals = []string{"c"}
		}
		deps = append(deps, map[string]any{
			"name": name, "hash": all[name].hash(),
			"parameters": map[string]any{"deptypes": strings.Split(p.deps[name], ","), "virtuals": virtuals},
		})
	}
	if deps != nil {
		n["dependencies"] = deps
	}
	return n
}

// nodeV4 is a package as a spec file of version 4 has it.
func nodeV4(p pkg) map[string]any {
	n := node(p)
	delete(n, "annotations")
	n["compiler"] = map[string]any{"name": "gcc", "version": "12.2.0"}
	var deps []any
	for _, d := range asList(n["dependencies"]) {
		if d.(map[string]any)["name"] != "gcc" {
			deps = append(deps, d)
		}
	}
	delete(n, "dependencies")
	if deps != nil {
		n["dependencies"] = deps
	}
	return n
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

func sorted(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// graph returns p and all it depends on, p first.
func graph(p pkg) []pkg {
	all, seen := world(), map[string]bool{}
	var found []pkg
	var visit func(p pkg)
	visit = func(p pkg) {
		if seen[p.name] {
			return
		}
		seen[p.name] = true
		found = append(found, p)
		for _, name := range sorted(p.deps) {
			visit(all[name])
		}
	}
	visit(p)
	return found
}

func specFileOf(p pkg, version int, describe func(pkg) map[string]any) map[string]any {
	var nodes []any
	for _, q := range graph(p) {
		nodes = append(nodes, describe(q))
	}
	return map[string]any{"spec": map[string]any{"_meta": map[string]any{"version": version}, "nodes": nodes}, "buildcache_layout_version": 2}
}

// archive is an install prefix as a compressed tar archive. The same package
// has always the same.
func archive(t *testing.T, p pkg) []byte {
	t.Helper()
	random := rand.NewChaCha8(sha256.Sum256([]byte(p.name)))
	content := make([]byte, p.size)
	_, _ = random.Read(content)
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	tw := tar.NewWriter(zw)
	must(t, tw.WriteHeader(&tar.Header{Name: "opt/sw/" + p.name + "/lib/" + p.name + ".so", Mode: 0o755, Size: int64(p.size), Typeflag: tar.TypeReg}))
	_, err := tw.Write(content)
	must(t, err)
	must(t, tw.Close())
	must(t, zw.Close())
	return packed.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sha(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return data
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, err := zw.Write(data)
	must(t, err)
	must(t, zw.Close())
	return packed.Bytes()
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, data, 0o644))
}

// date is when the packages of test caches were made.
var date = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func writeBlob(t *testing.T, root, mediaType, compression string, data []byte) map[string]any {
	t.Helper()
	writeFile(t, filepath.Join(root, "blobs/sha256", sha(data)[:2], sha(data)), data)
	return map[string]any{
		"contentLength": len(data), "mediaType": mediaType, "compression": compression,
		"checksumAlgorithm": "sha256", "checksum": sha(data),
	}
}

func manifestPath(root string, p pkg) string {
	version := strings.ReplaceAll(p.version, "=", "_")
	return filepath.Join(root, "v3/manifests/spec", p.name, p.name+"-"+version+"-"+p.hash()+".spec.manifest.json")
}

func blobPath(t *testing.T, root string, p pkg) string {
	t.Helper()
	digest := sha(archive(t, p))
	return filepath.Join(root, "blobs/sha256", digest[:2], digest)
}

// newV3 writes a directory of layout 3 with the packages of that name.
func newV3(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		p := world()[name]
		manifest := toJSON(t, map[string]any{"version": 3, "data": []any{
			writeBlob(t, root, "application/vnd.spack.install.v2.tar+gzip", "gzip", archive(t, p)),
			writeBlob(t, root, "application/vnd.spack.spec.v5+json", "gzip", zipped(t, toJSON(t, specFileOf(p, 5, node)))),
		}})
		if name == "zlib" { // one signed manifest
			manifest = sign(t, signer(), manifest)
			writeKeys(t, root, signer())
		}
		writeFile(t, manifestPath(root, p), manifest)
		must(t, os.Chtimes(manifestPath(root, p), date, date))
	}
	writeFile(t, filepath.Join(root, "v3/layout.json"), []byte(`{"signing": "gpg"}`))
	writeV3Index(t, root, names...)
	return root
}

// signer is who signs in test caches.
var signer = sync.OnceValue(func() *openpgp.Entity { return newSigner("maker") })

func newSigner(name string) *openpgp.Entity {
	e, err := openpgp.NewEntity(name, "", name+"@example.org", nil)
	if err != nil {
		panic(err)
	}
	return e
}

// sign signs a text as gpg --clearsign does.
func sign(t *testing.T, who *openpgp.Entity, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, who.PrivateKey, nil)
	must(t, err)
	_, err = w.Write(text)
	must(t, err)
	must(t, w.Close())
	return append(out.Bytes(), '\n')
}

// public is the public key of somebody.
func public(t *testing.T, who *openpgp.Entity) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	must(t, err)
	must(t, who.Serialize(w))
	must(t, w.Close())
	return out.Bytes()
}

// writeKeys puts a public key where Spack puts it: generate_key_index in
// binary_distribution.py.
func writeKeys(t *testing.T, root string, who *openpgp.Entity) {
	t.Helper()
	name := strings.ToUpper(fmt.Sprintf("%x", who.PrimaryKey.Fingerprint))
	key := writeBlob(t, root, "application/pgp-keys", "none", public(t, who))
	writeFile(t, filepath.Join(root, "v3/manifests/key", name+".key.manifest.json"), toJSON(t, map[string]any{"version": 3, "data": []any{key}}))
	list := writeBlob(t, root, "application/vnd.spack.keyindex.v1+json", "none", toJSON(t, map[string]any{"keys": map[string]any{name: map[string]any{}}}))
	writeFile(t, filepath.Join(root, "v3/manifests/key/keys.manifest.json"), toJSON(t, map[string]any{"version": 3, "data": []any{list}}))
}

func writeV3Index(t *testing.T, root string, names ...string) {
	t.Helper()
	record := writeBlob(t, root, "application/vnd.spack.db.v8+json", "none", indexOf(t, "8", node, names...))
	writeFile(t, filepath.Join(root, "v3/manifests/index/index.manifest.json"), toJSON(t, map[string]any{"version": 3, "data": []any{record}}))
}

func indexOf(t *testing.T, version string, describe func(pkg) map[string]any, names ...string) []byte {
	t.Helper()
	installs := map[string]any{}
	for _, name := range names {
		for _, p := range graph(world()[name]) {
			installs[p.hash()] = map[string]any{"spec": describe(p), "ref_count": 0, "in_buildcache": slices.Contains(names, p.name)}
		}
	}
	return toJSON(t, map[string]any{"database": map[string]any{"version": version, "installs": installs}})
}

// newV2 writes a directory of layout 2.
func newV2(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		p := world()[name]
		data := archive(t, p)
		file := specFileOf(p, 4, nodeV4)
		file["binary_cache_checksum"] = map[string]any{"hash_algorithm": "sha256", "hash": sha(data)}
		version := strings.ReplaceAll(p.version, "=", "_")
		stem := "linux-debian12-x86_64_v3-gcc-12.2.0-" + p.name + "-" + version + "-" + p.hash()
		writeFile(t, filepath.Join(root, "build_cache/linux-debian12-x86_64_v3/gcc-12.2.0", p.name+"-"+version, stem+".spack"), data)
		suffix, text := ".spec.json", toJSON(t, file)
		if name == "zlib" {
			suffix, text = ".spec.json.sig", sign(t, signer(), text)
			name := strings.ToUpper(fmt.Sprintf("%x", signer().PrimaryKey.Fingerprint))
			writeFile(t, filepath.Join(root, "build_cache/_pgp/index.json"), toJSON(t, map[string]any{"keys": map[string]any{name: map[string]any{}}}))
			writeFile(t, filepath.Join(root, "build_cache/_pgp", name+".pub"), public(t, signer()))
		}
		writeFile(t, filepath.Join(root, "build_cache", stem+suffix), text)
	}
	writeFile(t, filepath.Join(root, "build_cache/index.json"), indexOf(t, "7", nodeV4, names...))
	return root
}

// options are quick about repetitions.
func options() Options { return Options{RetryWait: 5 * time.Millisecond} }

func open(t *testing.T, address string) *Cache {
	t.Helper()
	c, err := Open(t.Context(), address, options())
	must(t, err)
	return c
}

// authFile writes what podman login writes.
func authFile(t *testing.T, address, userAndPassword string) string {
	t.Helper()
	_, host, _ := strings.Cut(address, "://")
	host, _, _ = strings.Cut(host, "/")
	name := filepath.Join(t.TempDir(), "auth.json")
	auths := map[string]any{host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(userAndPassword))}}
	writeFile(t, name, toJSON(t, map[string]any{"auths": auths}))
	return name
}
