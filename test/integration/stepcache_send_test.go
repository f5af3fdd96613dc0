//go:build integration

package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// Steps that one cache has go to another, also those that nobody has fetched,
// since the image does not need their layers: the second cache is as good as the
// first.
func TestStepCachePassesOn(t *testing.T) {
	t.Parallel()
	addr := registry.Start(t, registry.Options{})
	dir := filepath.Join(t.TempDir(), "steps")
	atRegistry, atAnother := "type=registry,ref="+addr+"/first,", "type=registry,ref="+addr+"/second/cache,"
	local := func(verb string) string { return "type=local," + verb + "=" + dir + "," }
	p := newProject(t, stepCacheRecipe)
	first := p.fresh("--cache-to", atRegistry+"mode=max")
	// A build that has nothing to do sends its steps, too.
	again := p.build("--tls-verify=false", "-v", "--cache-to", "type=local,dest="+dir+"-again,mode=max").ok()
	again.wantSteps(again.Cached, 0)
	again.says("6 steps sent, 0 were there")
	for _, way := range [][2]string{{atRegistry, local("dest")}, {local("src"), atAnother}} {
		o := p.fresh("--cache-from", strings.TrimSuffix(way[0], ","), "--cache-to", way[1]+"mode=max")
		o.says("6 steps sent, 0 were there")
		if o.Executed != 0 || o.ImageID != first.ImageID {
			t.Errorf("%d steps executed, image %s, want none and %s", o.Executed, o.ImageID, first.ImageID)
		}
		if n := p.storedLayers(); n != o.Layers {
			t.Errorf("%d layers are in the store, want the %d of the image: nothing else had to be fetched", n, o.Layers)
		}
	}
	p.fresh("--cache-from", addr+"/first", "--cache-to", addr+"/first").says("0 steps sent, 6 were there")
	// A changed step needs the stage that was never fetched on the way.
	p.recipe(strings.Replace(stepCacheRecipe, "to: /tool", "to: /other", 1))
	if o := p.fresh("--cache-from", "type=registry,ref="+addr+"/second/cache"); o.Executed != 2 {
		t.Errorf("%d steps executed, want the 2 changed ones\n%s", o.Executed, o.stderr)
	}
}

// Layers that a registry has got with an image are not sent to it again with
// their steps: it is told where it has them.
func TestStepCacheMountsLayers(t *testing.T) {
	t.Parallel()
	f := registry.StartFront(t, registry.FrontOptions{})
	p := newProject(t, stepCacheRecipe)
	image := p.fresh("-t", f.Address+"/one/image:1", "--push")
	f.Asked()
	o := p.run("cache", "export", "--storage-root", p.store, "--tls-verify=false", "--to", f.Address+"/two/steps", p.dir)
	o.says("6 steps sent, 0 were there")
	asked := f.Asked()
	mounted, uploaded := countBlobs(asked)
	// Six configurations, and the two layers of a stage that the image copies from.
	if mounted != image.Layers || uploaded > 6+2 {
		t.Errorf("the image has %d layers, %d were mounted; %d blobs were uploaded:\n%s", image.Layers, mounted, uploaded, strings.Join(asked, "\n"))
	}
}

// A secret that a step used is nowhere in what step caches get: neither in
// layers nor in what is noted about steps.
func TestStepCacheHoldsNoSecret(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	b := newSecretBuild(t, `
      - run: sha256sum < /run/secrets/tok > /opt/sum
        secrets: [{id: tok, env: TOKEN}]
`)
	addr := registry.Start(t, registry.Options{})
	dir := filepath.Join(t.TempDir(), "steps")
	b.build("--tls-verify=false", "--cache-to", "type=local,dest="+dir+",mode=max", "--cache-to", addr+"/steps").ok()
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	decode(t, filepath.Join(dir, "index.json"), &index)
	unpacked := t.TempDir()
	for _, m := range index.Manifests {
		tag := m.Annotations["org.opencontainers.image.ref.name"]
		for from, args := range map[string][]string{
			"local":    {"oci:" + dir + ":" + tag},
			"registry": {"--src-tls-verify=false", "docker://" + addr + "/steps:" + tag},
		} {
			judge(t, "skopeo", append([]string{"copy", "--dest-decompress"}, append(args, "dir:"+filepath.Join(unpacked, from+tag))...)...)
		}
	}
	s := search{Value: b.value, Since: b.search.Since, Dirs: []string{dir, unpacked}}
	s.wantAbsent(t, "in the step caches")
	s.Value = sha256Hex(b.value) // the step's layer is there twice, and the search sees its content
	if found := s.find(t); len(found) < 2 {
		t.Errorf("the search sees what the step has written in %q only", found)
	}
}
