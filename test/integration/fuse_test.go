//go:build integration

package integration

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Where fuse-overlayfs mounts the layers, as on hosts whose kernel does not let
// users mount an overlay, the image is the same. The program is the real one.
func TestFuseOverlayfs(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath(cmp.Or(os.Getenv("PDIBUILD_FUSE_OVERLAYFS"), "fuse-overlayfs"))
	if err != nil {
		t.Skip("SKIPPED: this test needs fuse-overlayfs: install it, or name the program in PDIBUILD_FUSE_OVERLAYFS")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skipf("SKIPPED: this test needs /dev/fuse: %v", err)
	}
	p := newProject(t, `version: 1
stages:
  - name: made
    from: BASE
    steps:`+strangeTree+`
  - name: final
    from: BASE
    steps:
      - {copy: /t, from: made, to: /t}
      - {copy: data, to: /opt/data, owner: games}
      - run: rm -rf /var/lib/dpkg/info; mkdir /var/lib/dpkg/info; touch /tmp/x; rm /tmp/x; echo NONCE >/opt/new; mv /opt/new /opt/named; ln -s a /opt/l
      - run: rm /opt/data/a; rm -r /opt/data/sub; mkdir /opt/data/sub; touch /opt/data/sub/c; chmod 700 /opt/data
      - check: ls /opt/data /opt/data/sub | tr '\n' ' ' | grep "^/opt/data. sub  /opt/data/sub. c $"
`)
	p.write("data/a", "a\n")
	p.write("data/sub/b", "b\n")
	want := p.build().ok()
	p.freshStore()
	conf := filepath.Join(t.TempDir(), "storage.conf")
	text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n[storage.options.overlay]\nmount_program = %q\n", p.store, p.store+"/run", program)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "CONTAINERS_STORAGE_CONF="+conf)
	o := p.build().ok()
	if o.ImageID != want.ImageID {
		t.Errorf("with fuse-overlayfs it is %s, want %s", o.ImageID, want.ImageID)
	}
	p.build().ok().says("steps  0 executed")
	noMountHas(t, p.store)
}
