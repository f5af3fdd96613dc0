package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

const zlibHash = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// oneCache writes a binary cache of layout 2 with one package in it. Its
// archive is a compressed nothing: only Spack looks into it.
func oneCache(t *testing.T) string {
	t.Helper()
	var packed bytes.Buffer
	if err := gzip.NewWriter(&packed).Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const stem = "linux-debian12-zen4-gcc-12.2.0-zlib-1.3.1-" + zlibHash
	spec := fmt.Sprintf(`{"spec": {"_meta": {"version": 4}, "nodes": [{"name": "zlib", "version": "1.3.1", "hash": %q,
 "arch": {"platform": "linux", "platform_os": "debian12", "target": "zen4"}, "compiler": {"name": "gcc", "version": "12.2.0"}}]},
 "binary_cache_checksum": {"hash_algorithm": "sha256", "hash": "%x"}}`, zlibHash, sha256.Sum256(packed.Bytes()))
	for name, data := range map[string][]byte{
		stem + ".spec.json": []byte(spec),
		"linux-debian12-zen4/gcc-12.2.0/zlib-1.3.1/" + stem + ".spack": packed.Bytes(),
	} {
		path := filepath.Join(dir, "build_cache", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildcacheInRegistryWithPassword(t *testing.T) {
	addr := registry.Start(t, registry.Options{User: "ann", Password: "typed"})
	address, dir := "oci+http://"+addr+"/site/cache", oneCache(t)
	auth := filepath.Join(t.TempDir(), "auth.json")
	entry := base64.StdEncoding.EncodeToString([]byte("ann:typed"))
	if err := os.WriteFile(auth, fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, addr, entry), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, authFile string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"no password", "", []string{"copy", dir, address}, codeRegistry, "", addr + " wants a user and a password, and none were given for it\npdibuild: hint: log in with 'podman login " + addr + "', or give --creds USER"},
		{"wrong password", "", []string{"copy", "--creds", "ann:wrong", dir, address}, codeRegistry, "", "401"},
		{"typed password", "", []string{"copy", "--creds", "ann", dir, address}, 0, zlibHash + "\n", "1 packages copied, 0 were there"},
		{"for the destination", "", []string{"copy", "--dest-creds", "ann:typed", dir, address}, 0, "", "0 packages copied, 1 were there"},
		{"for the source", "", []string{"copy", "--src-creds", "ann:typed", address, t.TempDir()}, 0, zlibHash + "\n", ""},
		{"variables", "", []string{"ls", "--username-variable", "MIRROR_USER", "--password-variable", "MIRROR_PASSWORD", address}, 0, "zlib@1.3.1", ""},
		{"one variable", "", []string{"ls", "--password-variable", "MIRROR_PASSWORD", address}, codeUsage, "", "--username-variable is missing"},
		{"no such variable", "", []string{"ls", "--username-variable", "MIRROR_USER", "--password-variable", "NONE", address}, codeUsage, "", "the variable NONE is not set"},
		{"in pieces", auth, []string{"copy", "--chunk-size", "100B", dir, address + "-in-pieces"}, 0, zlibHash + "\n", "1 packages copied"},
		{"pieces of nothing", auth, []string{"copy", "--chunk-size", "0", dir, address}, codeUsage, "", "hint: write such as --chunk-size 16MB"},
		{"--authfile", "", []string{"verify", "--deep", "--authfile", auth, address}, 0, "", "1 packages, 2 blobs"},
		{"REGISTRY_AUTH_FILE", auth, []string{"ls", address}, 0, "zlib@1.3.1", ""},
		{"prune", auth, []string{"prune", "--older-than", "0d", address}, 0, zlibHash + "\n", "1 packages removed, 0 stay"},
		{"empty", auth, []string{"ls", address, "--format", "json"}, 0, "[]\n", ""},
		{"no cache", auth, []string{"ls", "oci+http://" + addr + "/none"}, codeOther, "", "there is no binary cache"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newTestApp(&fakeEngine{})
			a.env["REGISTRY_AUTH_FILE"] = test.authFile
			a.env["MIRROR_USER"], a.env["MIRROR_PASSWORD"] = "ann", "typed"
			if code := a.main(append([]string{"cache", "buildcache"}, test.args...)); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(a.out.String(), test.stdout) || test.stdout == "" && a.out.Len() > 0 {
				t.Errorf("standard output is %q, want %q", &a.out, test.stdout)
			}
			if !strings.Contains(a.err.String(), test.stderr) {
				t.Errorf("standard error is\n%s\nwant %q in it", &a.err, test.stderr)
			}
			if a.entered > 0 || len(a.opened) > 0 {
				t.Error("the image store was opened")
			}
		})
	}
}

func TestBuildcacheHints(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"ls", "oci://" + plain.Listener.Addr().String() + "/x"}, codeRegistry, "hint: the server does not speak HTTPS; write oci+http://"},
		{[]string{"ls", secure.URL}, codeRegistry, "certificate"},
		{[]string{"ls", "--tls-verify=false", secure.URL}, codeOther, "make one with 'pdibuild cache buildcache index' where the files are"},
		{[]string{"copy", oneCache(t), plain.URL}, codeUsage, "hint: only directories of layout 3 and registries can be written to"},
	} {
		a := newTestApp(&fakeEngine{})
		code := a.main(append([]string{"cache", "buildcache"}, test.args...))
		if code != test.code || !strings.Contains(a.err.String(), test.stderr) {
			t.Errorf("%q: exit code %d, want %d; standard error is\n%s\nwant %q in it", test.args, code, test.code, &a.err, test.stderr)
		}
	}
}

func TestAuthFilesOfPodmanAndDocker(t *testing.T) {
	a := newTestApp(&fakeEngine{})
	a.env["HOME"], a.env["XDG_RUNTIME_DIR"] = "/home/ann", "/run/user/7"
	got := strings.Join(a.authFiles(), " ")
	for _, want := range []string{"/run/user/7/containers/auth.json", "/home/ann/.config/containers/auth.json", "/home/ann/.docker/config.json"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not among %s", want, got)
		}
	}
	a.env["REGISTRY_AUTH_FILE"] = "/else"
	if got := strings.Join(a.authFiles(), " "); got != "/else" {
		t.Errorf("with REGISTRY_AUTH_FILE, files are %s", got)
	}
}
