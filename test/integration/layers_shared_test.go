//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A storedLayer is a layer as the store lists it.
type storedLayer struct {
	ID     string `json:"id"`
	Parent string `json:"parent"`
	DiffID string `json:"diff-digest"`
}

// layers lists the layers of the project's store.
func (p *project) layers(driver string) []storedLayer {
	p.t.Helper()
	out, err := inNamespace(exec.Command("cat", filepath.Join(p.store, driver+"-layers", "layers.json"))).Output()
	if err != nil {
		p.t.Fatal(err)
	}
	var layers []storedLayer
	if err := json.Unmarshal(out, &layers); err != nil {
		p.t.Fatal(err)
	}
	return layers
}

// usualDriver is the storage driver of the project's store.
func (p *project) usualDriver() string {
	found, _ := filepath.Glob(filepath.Join(p.store, "*-layers", "layers.json")) // the pattern is right
	if len(found) != 1 {
		p.t.Fatalf("the store has %v", found)
	}
	return strings.TrimSuffix(filepath.Base(filepath.Dir(found[0])), "-layers")
}

const sharedRecipe = `version: 1
name: localhost/shared
stages:
  - name: final
    from: scratch
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: [/bin/busybox, --install, -s, /bin]
      - run: "echo words >/file # WORDS"
      - {file: /last, content: "a WORDS"}
    env: {PATH: /bin}
`

func newShared(t *testing.T) *project {
	t.Helper()
	p := newSmall(t, "")
	p.freshStore()
	p.words("first")
	return p
}

// words makes the recipe's third step another one with the same result, and its
// last one another one with another result.
func (p *project) words(words string) { p.recipe(strings.ReplaceAll(sharedRecipe, "WORDS", words)) }

// Every layer has the id that podman, buildah and skopeo would give to it, with
// each driver.
func TestLayersHaveTheIDsOfOthers(t *testing.T) {
	for _, driver := range []string{"", "vfs"} {
		t.Run("driver "+driver, func(t *testing.T) {
			p := newShared(t)
			if driver == "" {
				p.build().ok()
				driver = p.usualDriver()
			} else {
				p.build("--storage-driver", driver).ok()
			}
			layers := p.layers(driver)
			if len(layers) != 4 {
				t.Errorf("%d layers, want 4", len(layers))
			}
			for _, l := range layers {
				diff := strings.TrimPrefix(l.DiffID, "sha256:")
				want := diff
				if l.Parent != "" {
					want = fmt.Sprintf("%x", sha256.Sum256([]byte(l.Parent+"+"+diff)))
				}
				if l.ID != want {
					t.Errorf("the layer with digest %s on %q is %s, not %s", diff, l.Parent, l.ID, want)
				}
			}
		})
	}
}

// buildah makes an image of ours its own, and podman pulls one that we have,
// without a copy of any layer; and the other way round.
func TestOthersCopyNoLayer(t *testing.T) {
	needTool(t, "buildah")
	needTool(t, "podman")
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: as root only; podman's own rootless set-up is another matter")
	}
	p := newShared(t)
	run, err := os.MkdirTemp("/tmp", "pdi") // podman takes at most 50 characters, and no capitals
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(filepath.Join(p.store, "overlay"), syscall.MNT_DETACH)
		_ = os.RemoveAll(run)
	})
	ours := p.build("-o", "type=oci,dest="+run+"/oci", "--tag", "a").ok()
	if p.usualDriver() != "overlay" {
		t.Skip("SKIPPED: the store's driver is not overlay")
	}
	with := func(name string, args ...string) string {
		return strings.TrimSpace(judge(t, name, append([]string{"--root", p.store, "--runroot", run, "--storage-driver", "overlay"}, args...)...))
	}
	before := len(p.layers("overlay"))
	container := with("buildah", "from", "localhost/shared:a")
	with("buildah", "commit", container, "localhost/theirs:1")
	with("buildah", "rm", container)
	if n := len(p.layers("overlay")); n > before+1 { // an empty one of its own
		t.Errorf("after buildah commit there are %d layers, before %d", n, before)
	}
	before = len(p.layers("overlay"))
	if out := with("podman", "pull", "oci:"+run+"/oci"); !strings.Contains(out, ours.ImageID) {
		t.Errorf("podman has pulled %s, not %s", out, ours.ImageID)
	}
	if n := len(p.layers("overlay")); n != before {
		t.Errorf("after podman pull there are %d layers, before %d", n, before)
	}

	p.freshStore()
	with("podman", "pull", "oci:"+run+"/oci")
	before = len(p.layers("overlay"))
	if o := p.build().ok(); o.ImageID != ours.ImageID {
		t.Errorf("the image is %s, not %s", o.ImageID, ours.ImageID)
	}
	if n := len(p.layers("overlay")); n != before {
		t.Errorf("after the build of what podman has pulled there are %d layers, before %d", n, before)
	}
	p.words("second") // needs files of the layers that podman has made
	p.build().ok()
}

// Steps with the same result have one layer. To prune one of them takes nothing
// from the other one, and both let it go in the end.
func TestEqualResultsShareALayer(t *testing.T) {
	p := newShared(t)
	first := p.build("--tag", "a").ok()
	p.words("second")
	second := p.build("--tag", "b").ok()
	second.wantSteps(3, 2)
	if n := len(p.layers(p.usualDriver())); n != 5 {
		t.Errorf("the images have %d layers, want 5 of which they share 3", n)
	}
	if steps := p.entries("step"); len(steps) != 6 {
		t.Errorf("%d steps are kept, want 6: %+v", len(steps), steps)
	}
	remove := func(tag string) {
		t.Helper()
		if rm := p.run("rm", "--storage-root", p.store, "localhost/shared:"+tag); rm.code != 0 {
			t.Fatal(rm.stderr)
		}
		p.prune("--all")
		if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 0 {
			t.Errorf("after %s was removed: exit code %d\n%s%s", tag, o.code, o.stdout, o.stderr)
		}
	}
	remove("a")
	if o := p.build("--tag", "b").ok(); o.ImageID != second.ImageID || o.Executed != 0 {
		t.Errorf("after the other image was removed: image %s, %d steps executed\n%s", o.ImageID, o.Executed, o.stderr)
	}
	p.words("first")
	if o := p.build("--tag", "a").ok(); o.ImageID != first.ImageID {
		t.Errorf("built again it is image %s, not %s", o.ImageID, first.ImageID)
	}
	remove("b")
	if o := p.build("--tag", "a").ok(); o.ImageID != first.ImageID || o.Executed != 0 {
		t.Errorf("after the other image was removed: image %s, %d steps executed\n%s", o.ImageID, o.Executed, o.stderr)
	}
	remove("a")
	for _, kind := range []string{"step", "image", "layer", "rest"} {
		if left := p.entries(kind); len(left) > 0 {
			t.Errorf("left: %+v", left)
		}
	}
	if n := len(p.layers(p.usualDriver())); n > 0 {
		t.Errorf("%d layers are left", n)
	}
}

// Builds of different steps with the same result at the same time are all right,
// beside pruning.
func TestEqualResultsAtOnce(t *testing.T) {
	p := newShared(t)
	want := p.build().ok()
	p.prune("--all")
	const builds = 3
	var all sync.WaitGroup
	stop := make(chan struct{})
	var pruning sync.WaitGroup
	pruning.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				p.run("cache", "prune", "--storage-root", p.store, "--all")
			}
		}
	})
	for i := range builds {
		other := newSmall(t, "")
		other.store = p.store
		recipe := strings.ReplaceAll(sharedRecipe, `"a WORDS"`, `"a first"`)
		other.recipe(strings.ReplaceAll(recipe, "WORDS", fmt.Sprint(i)))
		all.Go(func() {
			for range 2 {
				if o := other.build("--no-cache"); o.code != 0 {
					t.Errorf("exit code %d\n%s", o.code, o.stderr)
				} else if o.ok(); o.Layers != want.Layers {
					t.Errorf("%d layers, want %d", o.Layers, want.Layers)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	pruning.Wait()
	if n := len(p.layers(p.usualDriver())); n != 4 {
		t.Errorf("there are %d layers, want 4", n)
	}
	if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 0 {
		t.Errorf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// A layer that is damaged and that an image keeps is not taken again.
func TestDamagedLayerIsNotShared(t *testing.T) {
	p := newShared(t)
	first := p.build().ok()
	out, err := inNamespace(exec.Command("find", p.store, "-path", "*diff/file", "-exec", "sh", "-c", `echo drows > "$1"`, "sh", "{}", ";", "-print")).CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Skipf("SKIPPED: the storage driver keeps no file that could be changed: %v %s", err, out)
	}
	if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 1 {
		t.Fatalf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	p.recipe(strings.ReplaceAll(sharedRecipe, "WORDS", "second") + "    cmd: [/bin/sh]\n")
	p.recipe(strings.Replace(p.read("pdibuild.yaml"), "      - {file: /last", "      - run: test \"$(cat /file)\" = words\n      - {file: /last", 1))
	if o := p.build("--tag", "other").ok(); o.ImageID == first.ImageID {
		t.Error("the recipe makes the same image")
	}
}
