//go:build integration

package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

const inspectRecipe = `version: 1
name: localhost/inspect-NONCE
secrets:
  token: {env: TOKEN, optional: true}
stages:
  - name: final
    from: scratch
    steps:
      - file: /first
        content: "first NONCE"
      - file: /var/lib/dpkg/status
        content: |
          Package: libc6
          Status: install ok installed
          Architecture: amd64
          Version: 2.36-9
      - file: /first
        content: second
`

// inspected is what the tests need of inspect --format json.
type inspected struct {
	ID     string
	Layers []struct {
		DiffID string `json:"diff_id"`
		Step   string
	}
	Waste struct{ Hidden int64 }
}

func (p *project) inspect(image string) inspected {
	p.t.Helper()
	o := p.run("inspect", "--storage-root", p.store, "--tls-verify=false", "--format", "json", image)
	if o.code != 0 {
		p.t.Fatalf("inspect %s ends with %d\n%s", image, o.code, o.stderr)
	}
	var i inspected
	if err := json.Unmarshal([]byte(o.stdout), &i); err != nil {
		p.t.Fatal(err)
	}
	return i
}

// An image is the same wherever it is and however it is compressed.
func TestInspectTransports(t *testing.T) {
	t.Parallel()
	address := registry.Start(t, registry.Options{})
	p := newProject(t, inspectRecipe)
	o := p.build("--tag", "one").ok()
	name := "localhost/inspect-" + p.nonce + ":one"
	want := p.inspect(name)
	if len(want.Layers) != 3 || want.ID != "sha256:"+o.ImageID || want.Waste.Hidden != int64(len("first "+p.nonce)) {
		t.Fatalf("%+v", want)
	}
	if step := want.Layers[1].Step; step != "file /var/lib/dpkg/status" {
		t.Errorf("layer 2 was made by %q", step)
	}
	send := func(args ...string) {
		t.Helper()
		if o := p.run(append([]string{args[0], "--storage-root", p.store, "-q"}, args[1:]...)...); o.code != 0 {
			t.Fatalf("%v: %s", args, o.stderr)
		}
	}
	dir := t.TempDir()
	oci, archive, docker := "oci:"+filepath.Join(dir, "oci"), "oci-archive:"+filepath.Join(dir, "oci.tar"), "docker-archive:"+filepath.Join(dir, "docker.tar")
	send("export", "--compression", "zstd", name, oci)
	send("export", name, archive)
	send("export", name, docker)
	send("push", "--tls-verify=false", name, address+"/inspect:gzip")
	send("push", "--tls-verify=false", "--compression", "zstd", name, address+"/inspect:zstd")
	for _, image := range []string{oci, archive, docker, "docker://" + address + "/inspect:gzip", "docker://" + address + "/inspect:zstd"} {
		got := p.inspect(image)
		if len(got.Layers) != len(want.Layers) || got.Layers[2].DiffID != want.Layers[2].DiffID || got.Waste != want.Waste {
			t.Errorf("%s: %+v, want %+v", image, got, want)
		}
	}
}

// Bill and provenance are where a client of the specification looks for them,
// in a registry without the referrers API, and hold no secret.
func TestAttachments(t *testing.T) {
	t.Parallel()
	address := registry.Start(t, registry.Options{})
	p := newProject(t, inspectRecipe)
	const hidden = "a-value-that-nobody-may-see"
	p.env = append(p.env, "TOKEN="+hidden)
	p.build("--tag", address+"/attached:1", "--secret", "id=token,env=TOKEN", "--push", "--tls-verify=false", "--sbom", "--provenance").ok()
	get := func(path string) []byte {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+address+"/v2/attached/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v\n%s", path, resp.Status, err, data)
		}
		return data
	}
	subject := "sha256:" + sha256Hex(string(get("manifests/1")))
	var index struct {
		Manifests []struct{ Digest, ArtifactType string }
	}
	if err := json.Unmarshal(get("manifests/"+strings.Replace(subject, ":", "-", 1)), &index); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, m := range index.Manifests {
		var manifest struct {
			Layers  []struct{ Digest string }
			Subject struct{ Digest string }
		}
		if err := json.Unmarshal(get("manifests/"+m.Digest), &manifest); err != nil || manifest.Subject.Digest != subject {
			t.Fatalf("%s is about %q, want %q (%v)", m.Digest, manifest.Subject.Digest, subject, err)
		}
		content[m.ArtifactType] = string(get("blobs/" + manifest.Layers[0].Digest))
	}
	bill := p.run("sbom", "--storage-root", p.store, address+"/attached:1")
	if content["application/spdx+json"] != bill.stdout || !strings.Contains(bill.stdout, "pkg:deb/debian/libc6@2.36-9?arch=amd64") {
		t.Errorf("the bill in the registry is\n%s\nwant\n%s", content["application/spdx+json"], bill.stdout)
	}
	statement := content["application/vnd.in-toto+json"]
	for _, want := range []string{`"predicateType":"https://slsa.dev/provenance/v1"`, strings.TrimPrefix(subject, "sha256:"), `"secrets":["token"]`} {
		if !strings.Contains(statement, want) {
			t.Errorf("the provenance lacks %s:\n%s", want, statement)
		}
	}
	if strings.Contains(statement+bill.stdout, hidden) {
		t.Error("an attachment has the secret")
	}
}

// Attachments go where the image went, also through TLS with a site's own
// authority and a password.
func TestAttachmentsThroughTLS(t *testing.T) {
	t.Parallel()
	front := registry.StartFront(t, registry.FrontOptions{TLS: true, Behind: registry.Options{User: "me", Password: "a password"}})
	p := newProject(t, inspectRecipe)
	name := front.Address + "/attached:1"
	p.build("--tag", name, "--push", "--sbom", "--provenance", "--cert-dir", front.Authority).fails(7, "push")
	p.build("--tag", name, "--push", "--sbom", "--provenance", "--creds", "me:a password").fails(7, "certificate")
	p.build("--tag", name, "--push", "--sbom", "--provenance", "--creds", "me:a password", "--cert-dir", front.Authority).ok()
	attached := 0
	for _, asked := range front.Asked() {
		if strings.HasPrefix(asked, "PUT /v2/attached/manifests/sha256") {
			attached++
		}
	}
	if attached < 2 {
		t.Errorf("%d attachments were sent: %q", attached, front.Asked())
	}
	o := p.run("inspect", "--storage-root", p.store, "--cert-dir", front.Authority, "--creds", "me:a password", "--format", "json", "docker://"+name)
	if o.code != 0 || !strings.Contains(o.stdout, "libc6") {
		t.Errorf("exit code %d\n%s", o.code, o.stderr)
	}
}

// Limits that are not kept end with 8, a wrong file of limits with 2.
func TestInspectLimits(t *testing.T) {
	t.Parallel()
	p := newProject(t, inspectRecipe)
	p.build("--tag", "one").ok()
	p.write("ok.yaml", "highest_size: 1GB\n")
	p.write("strict.yaml", "highest_waste: 3B\nforbidden_paths: [first]\n")
	p.write("wrong.yaml", "highest_size: 1GB\nhighest_waist: 3\n")
	for file, want := range map[string]struct {
		code int
		says string
	}{"ok.yaml": {0, "keeps its limits"}, "strict.yaml": {8, "forbidden_paths: /first in layer 1"}, "wrong.yaml": {2, "wrong.yaml:2:1: unknown key"}} {
		o := p.run("inspect", "--storage-root", p.store, "--ci="+filepath.Join(p.dir, file), "localhost/inspect-"+p.nonce+":one")
		if o.code != want.code || !strings.Contains(o.stdout+o.stderr, want.says) {
			t.Errorf("%s: code %d, want %d and %q\n%s%s", file, o.code, want.code, want.says, o.stdout, o.stderr)
		}
	}
}
