//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// localPackages are the manifests in the project's binary cache, by name.
func (p *project) localPackages() map[string]string {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.store, "pdibuild/cache/spack/buildcache/v3/manifests/spec/*/*.json"))
	if err != nil || len(found) != 3 {
		p.t.Fatalf("the binary cache has %q, %v", found, err)
	}
	manifests := map[string]string{}
	for _, file := range found {
		manifests[filepath.Base(filepath.Dir(file))] = file
	}
	return manifests
}

// A damaged package in the binary cache is noticed by its digest, dropped and
// built again, and so is a source archive; one line says so, once.
func TestSpackDamageIsMended(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	first := p.build().ok()
	cache := filepath.Join(p.store, "pdibuild/cache/spack")
	damaged := map[string]func([]byte) []byte{
		"app":  func(data []byte) []byte { data[len(data)/2] ^= 1; return data },
		"tool": func(data []byte) []byte { return data[:len(data)/2] },
	}
	for name, damage := range damaged {
		text, err := os.ReadFile(p.localPackages()[name])
		must(t, err)
		_, sum, _ := strings.Cut(string(text), `"checksum":"`)
		blob := filepath.Join(cache, "buildcache/blobs/sha256", sum[:2], sum[:64])
		data, err := os.ReadFile(blob)
		must(t, err)
		must(t, os.WriteFile(blob, damage(data), 0o644))
	}
	source := filepath.Join(cache, "sources/_source-cache/archive/ab/ab"+strings.Repeat("0", 62)+".tar.gz")
	must(t, os.MkdirAll(filepath.Dir(source), 0o755))
	must(t, os.WriteFile(source, []byte("cut"), 0o644))
	o := p.again().ok()
	for _, line := range []string{
		"app@1.0/appappa in the local binary cache is damaged (wrong-digest); it was dropped",
		"tool@1.0/tooltoo in the local binary cache is damaged (wrong-size); it was dropped",
		"source archive " + filepath.Base(source) + " is damaged; it was dropped",
	} {
		if n := strings.Count(o.stderr, line); n != 1 {
			t.Errorf("%q is said %d times:\n%s", line, n, o.stderr)
		}
	}
	wantFromCache(t, o, map[string]bool{"base": true, "tool": false, "app": false})
	if o.ImageID != first.ImageID {
		t.Errorf("mended, it is %s, and was %s", o.ImageID, first.ImageID)
	}
	if _, err := os.Stat(source); err == nil {
		t.Error("the damaged archive is still there")
	}
	wantFromCache(t, p.again().ok(), map[string]bool{"base": true, "app": true})
}

// gpgHome is a directory of gpg with so many keys of its own.
func gpgHome(t *testing.T, keys ...string) (home string, gpg func(stdin []byte, args ...string) []byte) {
	t.Helper()
	needTool(t, "gpg")
	home, err := os.MkdirTemp("/tmp", "gpg") // its socket wants a short path
	must(t, err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg = func(stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", ""}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %s: %v", args, err)
		}
		return out
	}
	for _, key := range keys {
		gpg(nil, "--quick-gen-key", key, "rsa2048", "sign", "never")
	}
	return home, gpg
}

// Of a mirror with signed packages, those are taken that are signed with a key
// which gpg of this host knows; the others are compiled, with a warning.
func TestSpackSignedMirror(t *testing.T) {
	t.Parallel()
	p := newSpackProject(t, "", "", "true")
	p.build().ok()
	signer, sign := gpgHome(t, "signer@example.org")
	stranger, _ := gpgHome(t, "stranger@example.org")
	nobody, _ := gpgHome(t)
	for _, file := range p.localPackages() {
		if strings.Contains(file, "/tool/") {
			continue // nobody has signed it
		}
		text, err := os.ReadFile(file)
		must(t, err)
		must(t, os.WriteFile(file, sign(text, "--clearsign"), 0o644))
	}
	mirror := filepath.Join(t.TempDir(), "mirror")
	must(t, os.CopyFS(mirror, os.DirFS(filepath.Join(p.store, "pdibuild/cache/spack/buildcache"))))
	for name, c := range map[string]struct {
		home, step string
		cached     map[string]bool
		says       []string
	}{
		"a known key":   {signer, "", map[string]bool{"base": true, "app": true}, []string{"0 will compile"}},
		"another key":   {stranger, "", map[string]bool{"base": false, "app": false}, []string{"binary cache far", "among the known keys", "the build goes on without it"}},
		"no key":        {nobody, "", map[string]bool{"base": false, "app": false}, []string{"gpg knows no keys", "gpg --import FILE", "3 will compile"}},
		"unsigned: yes": {nobody, ", buildcache: {unsigned: true}", map[string]bool{"base": true, "app": true}, []string{"0 will compile"}},
	} {
		t.Run(name, func(t *testing.T) {
			maker, p := p, newSpackProject(t, "", c.step, "true")
			p.installs(maker)
			p.write("spack.yaml", fmt.Sprintf("spack:\n  view: true\n  specs: [app]\n  mirrors:\n    far: {url: \"file://%s\", signed: true}\n", mirror))
			p.env = []string{"GNUPGHOME=" + c.home}
			o := p.build().ok()
			o.says(c.says...)
			wantFromCache(t, o, c.cached)
		})
	}
}
