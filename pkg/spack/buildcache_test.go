package spack_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

func manifest(t *testing.T, path ...string) *spack.Manifest {
	t.Helper()
	m, err := spack.ParseManifest("m", readFile(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// built are the packages that the lock has and the system doesn't.
func built(t *testing.T, l *spack.Lock) []*spack.Spec {
	t.Helper()
	all, err := l.Closure()
	if err != nil {
		t.Fatal(err)
	}
	var specs []*spack.Spec
	for _, s := range all {
		if s.External == nil {
			specs = append(specs, s)
		}
	}
	return specs
}

// All layouts of a cache list the same packages.
func TestIndex(t *testing.T) {
	layout3, ok := manifest(t, "testdata", "spack-1.3", "cache", spack.IndexManifestPath).Index()
	if !ok {
		t.Fatal("the manifest of the index has no index")
	}
	for file, version := range map[string]string{
		filepath.Join("spack-1.3", "cache", layout3.Path()):          "spack-1.3",
		filepath.Join("spack-1.3", "oci", "index.json"):              "spack-1.3",
		filepath.Join("spack-0.24", "cache", spack.IndexPathLayout2): "spack-0.24",
	} {
		x, err := spack.ReadIndex(bytes.NewReader(readFile(t, "testdata", file)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		l := lock(t, "testdata", version, "spack.lock")
		want := built(t, l)
		for _, s := range x.Packages {
			if l.Specs[s.Hash] == nil || l.Specs[s.Hash].String() != s.String() {
				t.Errorf("%s: %s", file, s)
			}
		}
		if len(x.Packages) != len(want) {
			t.Errorf("%s has %s, want %s", file, names(x.Packages), names(want))
		}
		if _, err := x.Specs.Closure([]string{x.Packages[0].Hash}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := spack.ReadIndex(strings.NewReader("{}")); err == nil || !strings.HasPrefix(err.Error(), "index of a binary cache: ") {
		t.Errorf("no index: %v", err)
	}
}

// Manifests are where ManifestPath says, and lead to the spec.
func TestManifest(t *testing.T) {
	dir := filepath.Join("testdata", "spack-1.3", "cache")
	for _, s := range built(t, lock(t, "testdata", "spack-1.3", "spack.lock")) {
		m := manifest(t, dir, spack.ManifestPath(s))
		archive, ok := m.Package()
		if !ok || archive.Size == 0 || archive.Compression != "gzip" || m.Signed {
			t.Errorf("%s: %+v", s, m)
		}
		blob, ok := m.Spec()
		if !ok {
			t.Fatalf("%s: %+v", s, m)
		}
		data := readFile(t, dir, blob.Path())
		if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); sum != blob.Digest() || int64(len(data)) != blob.Size {
			t.Errorf("%s: the blob is %s", s, sum)
		}
		f, err := spack.ParseSpecFile(blob.Checksum, data)
		if err != nil || f.Spec.String() != s.String() || len(f.Specs) < 1 {
			t.Errorf("%s: %+v, %v", s, f, err)
		}
	}
}

func TestSpecFileLayout2(t *testing.T) {
	files, err := filepath.Glob("testdata/spack-0.24/cache/build_cache/*.spec.json")
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		f, err := spack.ParseSpecFile(file, readFile(t, file))
		if err != nil || !strings.HasSuffix(file, f.Spec.Hash+".spec.json") || len(f.Package.Checksum) != 64 {
			t.Errorf("%s: %+v, %v", file, f, err)
		}
		if _, err := f.Specs.Closure([]string{f.Spec.Hash}); err != nil {
			t.Error(err)
		}
	}
}

func TestSpecFileOCI(t *testing.T) {
	f, err := spack.ParseSpecFile("config", readFile(t, "testdata", "spack-1.3", "oci", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Spec.Name != "hello-tool" || f.Package.Size == 0 || f.Package.Compression != "gzip" {
		t.Errorf("got %+v", f)
	}
	log := string(readFile(t, "testdata", "spack-1.3", "oci", "push.log"))
	if tag := spack.Tag(f.Spec); !strings.Contains(log, ":"+tag+"\n") {
		t.Errorf("the tag is not %s", tag)
	}
	if manifest := string(readFile(t, "testdata", "spack-1.3", "oci", "manifest.json")); !strings.Contains(manifest, f.Package.Digest()) {
		t.Errorf("%s is no layer of the image", f.Package.Digest())
	}
	hash, ok := spack.TagHash(spack.Tag(f.Spec))
	if !ok || hash != f.Spec.Hash {
		t.Errorf("the hash of the tag is %q", hash)
	}
	for _, tag := range []string{spack.IndexTag, "latest", "a-b.spack", "-" + hashA + ".spack"} {
		if hash, ok := spack.TagHash(tag); ok {
			t.Errorf("%s is a package, %s", tag, hash)
		}
	}
}

func TestNamesInCaches(t *testing.T) {
	s := &spack.Spec{Name: "p", Version: "git.feature/x+y=1.0", Hash: hashA}
	if got, want := spack.ManifestPath(s), "v3/manifests/spec/p/p-git.feature_x+y_1.0-"+hashA+".spec.manifest.json"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := spack.Tag(s), "p-git.feature_x_y_1.0-"+hashA+".spack"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.Version = strings.Repeat("1", 200)
	if tag := spack.Tag(s); len(tag) != 128 || !strings.HasSuffix(tag, hashA+".spack") {
		t.Errorf("a long tag is %s", tag)
	}
}

const sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestSignedManifest(t *testing.T) {
	text := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{\"version\":\n3, \"data\": [{\"contentLength\": 5,\n" +
		"\"mediaType\": \"application/vnd.spack.spec.v5+json\", \"checksumAlgorithm\": \"sha256\", \"checksum\":\n- \"" + sum + "\"}]}\n" +
		"-----BEGIN PGP SIGNATURE-----\n\nnothing\n-----END PGP SIGNATURE-----\n"
	for _, text := range []string{text, strings.ReplaceAll(text, "\n", "\r\n")} {
		m, err := spack.ParseManifest("m", []byte(text))
		if err != nil || !m.Signed || len(m.Blobs) != 1 || m.Blobs[0].Checksum != sum {
			t.Errorf("got %+v, %v", m, err)
		}
	}
}

func TestManifestErrors(t *testing.T) {
	blob := `{"version": 3, "data": [{"contentLength": 1, "checksumAlgorithm": %q, "checksum": %q}]}`
	for text, want := range map[string]string{
		"":                                "m:1:1: is not JSON: unexpected end of JSON input",
		"{}":                              "m: is not a manifest of layout 3 (its version is 0)",
		`{"version": 4}`:                  "m: is not a manifest of layout 3 (its version is 4)",
		`{"version": "3"}`:                "m:1:15: version cannot be of type string",
		fmt.Sprintf(blob, "sha256", ".."): `m: there is a blob of 1 bytes with the checksum "sha256:.."`,
		fmt.Sprintf(blob, "md5", sum):     `m: there is a blob of 1 bytes with the checksum "md5:`,
		fmt.Sprintf(blob, "sha256", strings.ToUpper(sum)): `m: there is a blob of 1 bytes with the checksum "sha256:0123456789ABCDEF`,
		strings.Repeat(" ", 2<<20):                        "m: is larger than 1048576 bytes",
	} {
		if _, err := spack.ParseManifest("m", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %s", text, err, want)
		}
	}
}

func TestSpecFileErrors(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 20 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"{}":                                  "f: has version 0 of the format; 3 to 5 are known",
		`{"spec": {"_meta": {"version": 5}}}`: "f: has no spec",
		`{"spec": {"_meta": {"version": 5}, "nodes": [null]}}`: "f: a spec is null",
		`{"spec": {"_meta": {"version": 5}, "nodes": [{}]}}`:   `f: "" is not a hash`,
		"\x1f\x8b":                  "f: decompress: unexpected EOF",
		bomb.String():               "f: is larger than 10000000 bytes",
		strings.Repeat(" ", 10<<20): "f: is larger than 10000000 bytes",
		`{"binary_cache_checksum": {"hash": "..", "hash_algorithm": "sha256"}, "spec": {"_meta": {"version": 5}, "nodes": [{"name": "a", "version": "1", "hash": "` + hashA + `"}]}}`: `f: the checksum of the package is sha256:".."`,
	} {
		if _, err := spack.ParseSpecFile("f", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.60q: got %v, want %s", text, err, want)
		}
	}
}

func TestSampleCache(t *testing.T) {
	dir := filepath.Join(samples(t), "directory-cache")
	count := 0
	err := filepath.WalkDir(filepath.Join(dir, "v3", "manifests", "spec"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		count++
		blob, _ := manifest(t, path).Spec()
		f, err := spack.ParseSpecFile(path, readFile(t, dir, blob.Path()))
		if err != nil || filepath.Join(dir, spack.ManifestPath(f.Spec)) != path {
			t.Errorf("%s: %+v, %v", path, f, err)
		}
		return nil
	})
	if err != nil || count != 9 {
		t.Errorf("%d manifests, %v", count, err)
	}
	x, err := spack.ReadIndex(bytes.NewReader(readFile(t, samples(t), "oci", "index.spack.layer.json")))
	if err != nil || len(x.Packages) != 9 {
		t.Errorf("%+v, %v", x, err)
	}
	configs, err := filepath.Glob(filepath.Join(samples(t), "oci", "pdiplugin*.config.json"))
	if err != nil || len(configs) != 1 {
		t.Fatal(configs, err)
	}
	data, err := os.ReadFile(configs[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := spack.ParseSpecFile("config", data)
	if err != nil || f.Spec.Name != "pdiplugin-trace" || f.Package.Size != 73304 {
		t.Errorf("got %+v, %v", f, err)
	}
}
