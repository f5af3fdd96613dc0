//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cacheRecipe has no base, so that a store of its own costs nothing.
const cacheRecipe = `version: 1
name: localhost/cache
stages:
  - name: tools
    from: scratch
    steps:
      - file: /a
        content: "first NONCE\n"
      - file: /b
        content: "second\n"
  - name: final
    from: scratch
    steps:
      - copy: /b
        from: tools
        to: /b
      - file: /c
        content: "third NONCE\n"
`

type cacheEntry struct {
	Kind, ID, Text, Useless string
	Size                    int64
	KeptBy                  []string `json:"kept_by"`
}

// entries lists the cache's entries of one kind.
func (p *project) entries(kind string) []cacheEntry {
	p.t.Helper()
	o := p.run("cache", "ls", "--storage-root", p.store, "--kind", kind, "--format", "json")
	var list []cacheEntry
	if err := json.Unmarshal([]byte(o.stdout), &list); err != nil || o.code != 0 {
		p.t.Fatalf("cache ls: exit code %d, %v\n%s%s", o.code, err, o.stdout, o.stderr)
	}
	return list
}

func (p *project) prune(args ...string) outcome {
	p.t.Helper()
	o := p.run(append([]string{"cache", "prune", "--storage-root", p.store}, args...)...)
	if o.code != 0 {
		p.t.Fatalf("cache prune: exit code %d\n%s", o.code, o.stderr)
	}
	return o
}

// What an image needs stays, whatever is pruned; what is not needed goes; and
// with the image's name all can go.
func TestPruneKeepsWhatImagesNeed(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	first := p.build().ok()
	if n := len(p.entries("step")); n != 4 {
		t.Errorf("%d steps are kept, want 4", n)
	}
	p.prune("--all", "--dry-run")
	if n := len(p.entries("step")); n != 4 {
		t.Errorf("after a dry run %d steps are kept, want 4", n)
	}
	p.prune("--all")
	for _, e := range p.entries("step") {
		if len(e.KeptBy) != 1 || e.KeptBy[0] != "localhost/cache:latest" {
			t.Errorf("%s is kept by %v", e.Text, e.KeptBy)
		}
	}
	if n := len(p.entries("step")); n != 2 {
		t.Errorf("%d steps are kept, want the 2 of the image", n)
	}
	// The image is whole, and what it lacks is made again, the same.
	o := p.build("--no-cache", "-o", "type=oci,dest="+filepath.Join(t.TempDir(), "oci")).ok()
	if o.ImageID != first.ImageID {
		t.Errorf("built again it is %s, not %s", o.ImageID, first.ImageID)
	}
	if rm := p.run("rm", "--storage-root", p.store, "localhost/cache:latest"); rm.code != 0 {
		t.Fatal(rm.stderr)
	}
	p.prune("--all")
	for _, kind := range []string{"step", "image", "layer", "rest"} {
		if left := p.entries(kind); len(left) > 0 {
			t.Errorf("left: %+v", left)
		}
	}
	p.build().ok().wantSteps(2, 4)
}

// An image that lost its name to a newer one goes with --all only, and layers
// that the newer one shares with it stay.
func TestPruneRemovesImagesWithoutAName(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	p.build().ok()
	p.recipe(strings.Replace(cacheRecipe, "third", "fourth", 1))
	second := p.build().ok()
	if images := p.entries("image"); len(images) != 1 {
		t.Fatalf("images without a name: %+v, want one", images)
	}
	p.prune("--older", "0h")
	if images := p.entries("image"); len(images) != 1 {
		t.Errorf("without --all there are %+v", images)
	}
	p.prune("--all")
	if images := p.entries("image"); len(images) != 0 {
		t.Errorf("left: %+v", images)
	}
	if o := p.build().ok(); o.ImageID != second.ImageID {
		t.Errorf("the newer image is not what it was")
	}
}

// A build keeps the limit of the configuration file by itself.
func TestABuildKeepsTheLimit(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	config := t.TempDir()
	p.env = []string{"XDG_CONFIG_HOME=" + config}
	p.write("big", strings.Repeat("x", 300_000))
	big := func(n string) string {
		return "version: 1\nname: localhost/limit\nstages:\n  - name: s\n    from: scratch\n    steps:\n      - {copy: big, to: /big" + n + "}\n"
	}
	for _, n := range []string{"1", "2", "3"} {
		p.recipe(big(n))
		p.build().ok()
	}
	if n := len(p.entries("step")); n != 3 {
		t.Fatalf("%d steps are kept, want 3", n)
	}
	if err := os.MkdirAll(filepath.Join(config, "pdibuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "pdibuild", "config.yaml"), []byte("cache:\n  keep: 800kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.recipe(big("4"))
	p.build().ok()
	steps := p.entries("step")
	if len(steps) != 2 {
		t.Errorf("steps that are kept: %+v, want the last two", steps)
	}
	for _, s := range steps {
		if !strings.Contains(s.Text, "big3") && !strings.Contains(s.Text, "big4") {
			t.Errorf("kept is %s", s.Text)
		}
	}
}

// A damaged record, layer or log is no reason to fail: the step runs again.
func TestDamageIsNoticedAndMended(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	first := p.build("--tag", "a").ok()
	records, err := filepath.Glob(filepath.Join(p.store, "pdibuild/steps/*/*.json"))
	if err != nil || len(records) < 5 {
		t.Fatalf("%v, %v", records, err)
	}
	for _, r := range records {
		if err := os.Truncate(r, 20); err != nil {
			t.Fatal(err)
		}
	}
	o := p.build("--tag", "a").ok()
	o.says("is damaged", "it was dropped, and the step runs again")
	if o.ImageID != first.ImageID {
		t.Errorf("built again it is %s, not %s", o.ImageID, first.ImageID)
	}
	if o = p.build("--tag", "a").ok(); strings.Contains(o.stderr, "damaged") || o.Executed != 0 {
		t.Errorf("it is said again:\n%s", o.stderr)
	}
}

func TestVerifyFindsAChangedLayer(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	p.build().ok()
	if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 0 {
		t.Fatalf("a whole cache: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	out, err := inNamespace(exec.Command("find", p.store, "-path", "*diff/a", "-exec", "sh", "-c", `echo other words of the size > "$1"`, "sh", "{}", ";", "-print")).CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Skipf("SKIPPED: the storage driver keeps no file that could be changed: %v %s", err, out)
	}
	o := p.run("cache", "verify", "--storage-root", p.store)
	if o.code != 1 || !strings.Contains(o.stdout, "dropped") {
		t.Fatalf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	p.build("--tag", "x").ok()
	if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 0 {
		t.Errorf("mended: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// Pruning beside a running build takes nothing from it; killed at random, it
// leaves nothing that a build stumbles over.
func TestPruneBesideBuildsAndKilled(t *testing.T) {
	t.Parallel()
	p := newProject(t, cacheRecipe)
	p.freshStore()
	first := p.build().ok()
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			cmd := p.command("cache", "prune", "--storage-root", p.store, "--all")
			if err := cmd.Start(); err != nil {
				t.Error(err)
			}
			if n%2 == 0 {
				time.Sleep(time.Duration(20+17*(n%9)) * time.Millisecond)
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
			_ = cmd.Wait()
			n++
		}
	}()
	for i := range 12 {
		p.recipe(strings.Replace(cacheRecipe, "first", "first "+strings.Repeat("again ", i%3), 1))
		if o := p.build(); o.code != 0 {
			t.Errorf("build %d: exit code %d\n%s", i, o.code, o.stderr)
		}
	}
	close(stop)
	t.Logf("%d prunings beside 12 builds", <-done)
	p.recipe(cacheRecipe)
	if o := p.build().ok(); o.ImageID != first.ImageID {
		t.Errorf("in the end it is %s, not %s", o.ImageID, first.ImageID)
	}
	p.prune()
	if o := p.run("cache", "verify", "--storage-root", p.store); o.code != 0 {
		t.Errorf("in the end: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// What podman has built on a layer of ours, or runs, is never taken away.
func TestPruneLeavesWhatPodmanUses(t *testing.T) {
	t.Parallel()
	needTool(t, "podman")
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: as root only; podman's own rootless set-up is another matter")
	}
	p := newProject(t, cacheRecipe)
	p.freshStore()
	p.build("--tag", "old").ok()
	runRoot, err := os.MkdirTemp("/tmp", "pdi") // podman takes at most 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(filepath.Join(p.store, "overlay"), syscall.MNT_DETACH)
		_ = os.RemoveAll(runRoot)
	})
	podman := func(args ...string) string {
		return judge(t, "podman", append([]string{"--root", p.store, "--runroot", runRoot, "--storage-driver", "overlay"}, args...)...)
	}
	podman("tag", "localhost/cache:old", "localhost/theirs:1")
	if rm := p.run("rm", "--storage-root", p.store, "localhost/cache:old"); rm.code != 0 {
		t.Fatal(rm.stderr)
	}
	p.prune("--all")
	if out := podman("image", "inspect", "--format", "{{len .RootFS.Layers}}", "localhost/theirs:1"); strings.TrimSpace(out) != "2" {
		t.Errorf("the image has %s layers", out)
	}
	dir := t.TempDir()
	podman("save", "--format", "oci-dir", "-o", filepath.Join(dir, "saved"), "localhost/theirs:1")
}
