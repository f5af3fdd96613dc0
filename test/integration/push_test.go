//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

// Layers are sent straight from their files. One that has been damaged in the
// store is an error, and never becomes an image in a registry.
func TestDamagedLayerIsNotPushed(t *testing.T) {
	needTool(t, "skopeo")
	name := registry.Start(t, registry.Options{}) + "/group/app:"
	p := newProject(t, "version: 1\nname: localhost/app\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE good}]\n")
	p.freshStore()
	p.build("--tag", "1").ok()
	if o := p.run("push", "--storage-root", p.store, "--tls-verify=false", "localhost/app:1", name+"good"); o.code != 0 {
		t.Fatal(o.stderr)
	}
	judge(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name+"good", "dir:"+t.TempDir())
	found, err := filepath.Glob(filepath.Join(p.store, "overlay/*/diff/f"))
	if err != nil || len(found) != 1 {
		t.Skipf("the store does not keep layers as overlay does: %v, %v", found, err)
	}
	if err := os.WriteFile(found[0], []byte(p.nonce+" evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, compression := range []string{"gzip", "zstd"} {
		// Else the good blob is known, and nothing has to be read.
		if err := os.RemoveAll(filepath.Join(p.store, "pdibuild/cache")); err != nil {
			t.Fatal(err)
		}
		p.run("push", "--storage-root", p.store, "--tls-verify=false", "--compression", compression, "localhost/app:1", name+"evil").fails(7)
		if out, err := tryJudge("skopeo", "inspect", "--tls-verify=false", "docker://"+name+"evil"); err == nil {
			t.Errorf("the registry has the damaged image:\n%s", out)
		}
	}
	p.run("export", "--storage-root", p.store, "localhost/app:1", fmt.Sprintf("oci:%s/o", t.TempDir())).fails(1)
}
