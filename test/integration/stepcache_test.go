//go:build integration

package integration

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// stepCacheRecipe has a stage that the image only copies from, and another that
// it is based on.
const stepCacheRecipe = `version: 1
name: localhost/steps
stages:
  - name: tools
    from: scratch
    steps:
      - file: /tool
        content: "tool NONCE\n"
      - file: /tool-too
        content: "another\n"
        mode: "0751"
  - name: base
    from: scratch
    steps:
      - file: /base
        content: "base NONCE\n"
      - user: {name: me, uid: 1001, gid: 1001, home: /home/me}
  - name: final
    from: base
    steps:
      - copy: /tool
        from: tools
        to: /tool
        owner: "1001:1001"
      - file: /end
        content: "end\n"
`

// fresh gives the project the store of a new runner.
func (p *project) fresh(args ...string) outcome {
	p.t.Helper()
	p.freshStore()
	return p.build(append([]string{"--tls-verify=false", "-v"}, args...)...).ok()
}

// storedLayers counts layers, as the library writes them down.
func (p *project) storedLayers() int {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.store, "*-layers", "layers.json"))
	if err != nil || len(files) != 1 {
		p.t.Fatalf("%v, %v", files, err)
	}
	var layers []any
	decode(p.t, files[0], &layers)
	return len(layers)
}

// A fresh host takes all steps from the cache, whichever kind it is, and makes
// the same image; what only other steps need is not even fetched.
func TestStepCacheWarmsAFreshHost(t *testing.T) {
	t.Parallel()
	addr := registry.Start(t, registry.Options{})
	local := filepath.Join(t.TempDir(), "steps")
	for name, c := range map[string]struct{ to, from string }{
		"registry":  {addr + "/group/cache", addr + "/group/cache"},
		"tag":       {"type=registry,ref=" + addr + "/app:cache,mode=max", "type=registry,ref=" + addr + "/app:cache"},
		"directory": {"type=local,dest=" + local + ",mode=max", "type=local,src=" + local},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, stepCacheRecipe)
			first := p.fresh("--cache-to", c.to)
			if first.Executed != 6 {
				t.Errorf("%d steps executed, want 6\n%s", first.Executed, first.stderr)
			}
			warm := p.fresh("--cache-from", c.from)
			if warm.ImageID != first.ImageID || warm.Executed != 0 {
				t.Errorf("warm: image %s with %d steps executed, want %s with none\n%s", warm.ImageID, warm.Executed, first.ImageID, warm.stderr)
			}
			if n := p.storedLayers(); n != warm.Layers {
				t.Errorf("%d layers were fetched, want the %d of the image alone", n, warm.Layers)
			}
			// What was fetched is a local result now.
			if again := p.build("--tls-verify=false", "--cache-from", c.from).ok(); again.Executed != 0 || again.ImageID != first.ImageID {
				t.Errorf("the second time: %d steps executed\n%s", again.Executed, again.stderr)
			}
			// A changed step that takes from another stage needs that stage.
			p.recipe(strings.Replace(stepCacheRecipe, "to: /tool", "to: /other", 1))
			changed := p.fresh("--cache-from", c.from)
			if changed.Executed != 2 {
				t.Errorf("changed: %d steps executed, want 2\n%s", changed.Executed, changed.stderr)
			}
			if cold := p.fresh(); cold.ImageID != changed.ImageID {
				t.Errorf("changed: %s with the cache, %s without", changed.ImageID, cold.ImageID)
			}
		})
	}
}

// mode=min leaves out what the image is not based on.
func TestStepCacheMin(t *testing.T) {
	t.Parallel()
	addr := registry.Start(t, registry.Options{})
	p := newProject(t, stepCacheRecipe)
	o := p.fresh("--cache-to", "type=registry,ref="+addr+"/min")
	o.says("4 steps sent")
	p.build("--tls-verify=false", "--tag", "x", "-v", "--cache-to", "type=registry,ref="+addr+"/min")
	o = p.fresh("--cache-from", addr+"/min")
	if o.Executed != 0 && o.Executed != 2 {
		t.Errorf("%d steps executed\n%s", o.Executed, o.stderr)
	}
}

// What has another digest, another key or no sense is refused: the step runs.
func TestStepCacheRefusesPoison(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "steps")
	p := newProject(t, stepCacheRecipe)
	first := p.fresh("--cache-to", "type=local,dest="+dir+",mode=max")
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) < 12 {
		t.Fatalf("%v, %v", blobs, err)
	}
	for _, b := range blobs {
		data, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 2 && data[0] == 0x1f && data[1] == 0x8b { // a layer
			data[len(data)-5] ^= 1
			if err := os.WriteFile(b, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := p.fresh("--cache-from", "type=local,src="+dir)
	o.says("is refused: what came has another digest", "the step runs here")
	if o.ImageID != first.ImageID || o.Executed == 0 {
		t.Errorf("image %s with %d steps executed\n%s", o.ImageID, o.Executed, o.stderr)
	}
	// Two entries change places.
	var index struct {
		SchemaVersion int               `json:"schemaVersion"`
		Manifests     []json.RawMessage `json:"manifests"`
	}
	file := filepath.Join(dir, "index.json")
	decode(t, file, &index)
	text := string(index.Manifests[0]) + "\x00" + string(index.Manifests[1])
	name := func(raw json.RawMessage) string {
		var m struct{ Annotations map[string]string }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		return m.Annotations["org.opencontainers.image.ref.name"]
	}
	a, b := name(index.Manifests[0]), name(index.Manifests[1])
	text = strings.NewReplacer(a, b, b, a).Replace(text)
	for i, part := range strings.Split(text, "\x00") {
		index.Manifests[i] = json.RawMessage(part)
	}
	data, err := json.Marshal(index)
	if err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	o = p.fresh("--cache-from", "type=local,src="+dir)
	o.says("is that of another step")
	if o.ImageID != first.ImageID {
		t.Errorf("image %s\n%s", o.ImageID, o.stderr)
	}
}

// A cache that cannot be reached is said once, and the build goes on.
func TestStepCacheUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	p := newProject(t, stepCacheRecipe)
	o := p.fresh("--cache-from", addr+"/none", "--cache-to", addr+"/none")
	if n := strings.Count(o.stderr, "cannot be used, and the build goes on without it"); n != 1 {
		t.Errorf("it is said %d times\n%s", n, o.stderr)
	}
	if o.Executed != 6 {
		t.Errorf("%d steps executed", o.Executed)
	}
}

// Steps that are finished when a build fails are sent, too; export and import
// do the same without a build.
func TestStepCacheExportImport(t *testing.T) {
	t.Parallel()
	addr := registry.Start(t, registry.Options{User: "me", Password: "secret-word"})
	p := newProject(t, stepCacheRecipe)
	first := p.fresh()
	at := func(verb, flag string, more ...string) outcome {
		return p.run(append(append([]string{"cache", verb, "--storage-root", p.store, "--tls-verify=false", flag, addr + "/steps"}, more...), p.dir)...)
	}
	if o := at("export", "--to"); o.code != 7 {
		t.Errorf("without a password: exit code %d\n%s", o.code, o.stderr)
	}
	o := at("export", "--to", "--creds", "me:secret-word")
	o.says("6 steps sent, 0 were there")
	at("export", "--to", "--creds", "me:secret-word").says("0 steps sent, 6 were there")
	p.freshStore()
	at("import", "--from", "--creds", "me:secret-word").says("9 of 9 steps are here now")
	if o := p.build().ok(); o.Executed != 0 || o.ImageID != first.ImageID {
		t.Errorf("%d steps executed, image %s\n%s", o.Executed, o.ImageID, o.stderr)
	}
}

// What a spack step found out comes with its entry: an environment is made, and
// its libraries are looked at, on a host on which Spack never ran.
func TestStepCacheKnowsSpackEnvironments(t *testing.T) {
	t.Parallel()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: as root only, since it sends and fetches a whole base image")
	}
	p := newSpackProject(t, "", "", "true")
	dir := filepath.Join(t.TempDir(), "steps")
	first := p.build("--tag", "steps", "--cache-to", "type=local,dest="+dir+",mode=max").ok()
	warm := p.fresh("--tag", "steps", "--cache-from", "type=local,src="+dir)
	const bases = 2 // are read from their directory
	if warm.ImageID != first.ImageID || warm.Executed != bases {
		t.Errorf("image %s with %d steps executed, want %s with the %d bases alone\n%s", warm.ImageID, warm.Executed, first.ImageID, bases, warm.stderr)
	}
	// The final stage changes: the environment is made from the builder's layers.
	p.recipe(strings.NewReplacer("STEP", "", "PREPARE", "echo changed >/changed").Replace(spackRecipe))
	changed := p.fresh("--tag", "steps", "--cache-from", "type=local,src="+dir)
	if changed.Executed <= bases || strings.Contains(changed.stderr, "] spack ") && !strings.Contains(changed.stderr, "cached: spack") {
		t.Errorf("%d steps executed\n%s", changed.Executed, changed.stderr)
	}
	if local := p.build("--tag", "steps", "--tls-verify=false", "--cache-from", "type=local,src="+dir).ok(); local.ImageID != changed.ImageID || local.Executed != 0 {
		t.Errorf("the second time: image %s with %d steps executed, want %s", local.ImageID, local.Executed, changed.ImageID)
	}
}
