//go:build integration

package integration

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A buildahContainer is what Buildah keeps of a container.
type buildahContainer struct {
	Type      string `json:"type"`
	Container string `json:"container-name"`
	ImageID   string `json:"image-id"`
	OCIv1     struct {
		Config struct {
			Env              []string
			User, WorkingDir string
		} `json:"config"`
	} `json:"ociv1"`
}

// containers are Buildah's in the project's store.
func (p *project) containers() []buildahContainer {
	p.t.Helper()
	out, err := inNamespace(exec.Command("sh", "-c", `for f in "$1"/overlay-containers/*/userdata/buildah.json; do test ! -e "$f" || { cat "$f"; echo; }; done`, "sh", p.store)).Output()
	if err != nil {
		p.t.Fatal(err)
	}
	var all []buildahContainer
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		var c buildahContainer
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			p.t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// The container of a failed step is one of Buildah's as long as it is kept, with
// the files and the settings of the step; then nothing of it stays in the store.
func TestFailedStepIsAContainerOfBuildah(t *testing.T) {
	const failing = "      - run: \"mkdir -p /w; echo COUNT >/made; echo secret-$WHAT; exit 3\"\n        env: {WHAT: thing}\n        workdir: /tmp\n"
	recipe := func(step string) string {
		return smallBase + "  - name: final\n    from: small\n    env: {OF: stage}\n    steps:\n" + step
	}
	p := newSmall(t, "")
	p.freshStore()
	for _, count := range []string{"1", "2"} {
		p.recipe(recipe(strings.Replace(failing, "COUNT", count, 1)))
		p.build().fails(4, "pdibuild shell --failed")
		if p.usualDriver() != "overlay" {
			t.Skip("SKIPPED: the store's driver is not overlay")
		}
		all := p.containers()
		if len(all) != 1 {
			t.Fatalf("after failure %s there are the containers %+v", count, all)
		}
		c := all[0].OCIv1.Config
		if !strings.HasPrefix(all[0].Container, "pdibuild-") || !slices.Contains(c.Env, "WHAT=thing") || !slices.Contains(c.Env, "OF=stage") || c.WorkingDir != "/tmp" {
			t.Errorf("the container is %+v", all[0])
		}
		files, err := inNamespace(exec.Command("sh", "-c", `cat "$1"/overlay/*/diff/made`, "sh", p.store)).Output()
		if err != nil || string(files) != count+"\n" {
			t.Errorf("the container's file is %q: %v", files, err)
		}
		shell := p.command("shell", "--storage-root", p.store, "--failed", p.dir)
		shell.Stdin = strings.NewReader("cat /made; exit\n")
		if out, err := shell.Output(); err != nil || string(out) != count+"\n" {
			t.Errorf("the shell sees %q: %v", out, err)
		}
	}
	p.recipe(recipe("      - run: echo well >/made\n"))
	p.build().ok()
	p.nothingOfContainers()

	// Whatever removes the record removes the container.
	p.recipe(recipe(failing))
	p.build().fails(4)
	p.prune("--all")
	p.nothingOfContainers()
}

// nothingOfContainers wants no container, no layer of one and no image that was
// made for one.
func (p *project) nothingOfContainers() {
	p.t.Helper()
	if all := p.containers(); len(all) > 0 {
		p.t.Errorf("containers are left: %+v", all)
	}
	for _, file := range []string{"overlay-images/images.json", "overlay-containers/volatile-containers.json", "overlay-layers/volatile-layers.json"} {
		out, err := inNamespace(exec.Command("cat", filepath.Join(p.store, file))).Output()
		if err == nil && (strings.Contains(string(out), "pdibuild-failed") || strings.Contains(file, "volatile") && strings.Contains(string(out), "id")) {
			p.t.Errorf("%s has %s", file, out)
		}
	}
}
