//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// All that a command does to files of layers below is in the image, the same one
// with every driver, also where size, time, mode and owner are as before.
func TestTouchedFilesOfLayersBelow(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: |-
          mkdir -p /w/d/g /w/e /w/h /w/i && cd /w
          echo 1 >a; echo 2 >b; echo 3 >c; echo 1 >d/f; echo 2 >e/f; echo 4 >d/g/h; ln -s a l; echo 7 >n
          for d in h i; do echo 1 >$d/x; ln $d/x $d/y; done
          find . -exec touch -h -d @0 {} +
      - run: cd /w; mv a z; mv b a; mv z b
      - run: test "$(cat /w/a /w/b)" = "$(printf '2\n1')"
      - run: cp -a /w/a /w/b
      - run: test "$(cat /w/a /w/b)" = "$(printf '2\n2')"
      - run: cd /w; echo 9 >c; touch -d @0 c
      - run: test "$(cat /w/c)" = 9
      - run: cd /w; cp -a d z; rm -r d; cp -a e d; rm -r e; cp -a z e; rm -r z
      - run: test "$(cat /w/d/f /w/e/f /w/e/g/h)" = "$(printf '2\n1\n4')" && test ! -e /w/d/g
      - run: ln -sfn b /w/l; touch -h -d @0 /w/l
      - run: test "$(readlink /w/l)" = b
      - run: rm /w/h/y
      - run: ln /w/n /w/o
      - run: rm /w/a && mkdir /w/a && echo x >/w/a/b
      - run: rm -r /w/e && cp -a /w/c /w/e
      - run: rm -r /w/d && mkdir -m 755 /w/d
      - run: test "$(cat /w/a/b /w/e /w/h/x /w/n /w/o)" = "$(printf 'x\n9\n1\n7\n7')" && test -z "$(ls /w/d)" && test ! -e /w/h/y
      - run: chmod 4755 /w/c; chown 5:6 /w/a/b
      - run: touch /w/c; chmod 755 /w/d
`)
	p.exportEverywhere("touched")
}

// Directories change places: an overlay renames none that a layer below has, and
// its commands copy. Other drivers get the same files.
func TestDirectoriesThatChangePlaces(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: mkdir -p /w/d /w/e; echo 1 >/w/d/f; echo 2 >/w/e/f; find /w -exec touch -d @0 {} +
      - run: cd /w; mv d z; mv e d; mv z e
      - run: test "$(cat /w/d/f /w/e/f)" = "$(printf '2\n1')"
`)
	p.exportEverywhere("places")
}

// Where an overlay keeps renamed directories and files with other attributes as
// references to layers below, as the storage.conf of some distributions has it,
// the image is the same.
func TestOverlayWithReferences(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: the kernel has overlays with metacopy for root alone")
	}
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: mkdir -p /w/d/g /w/e /w/p/q; cd /w; echo 1 >d/f; echo 2 >e/f; echo 5 >d/g/h; echo 6 >p/q/r; echo m >m; ln m n
      - run: cd /w; mv d z; mv e d; mv z e; chown 5:6 m
      - run: cd /w; mv p p2; echo 7 >p2/q/s; rm p2/q/r; mkdir p; echo n >p/n; chmod 700 p2
      - check: test "$(cat /w/d/f /w/e/f /w/e/g/h /w/p2/q/s /w/p/n /w/m)" = "$(printf '2\n1\n5\n7\nn\nm')" && test ! -e /w/p2/q/r && test ! -e /w/p/q
`)
	p.nonce = "references"
	want := p.build().ok()
	p.freshStore()
	conf := filepath.Join(t.TempDir(), "storage.conf")
	if err := os.WriteFile(conf, []byte("[storage]\ndriver = \"overlay\"\n[storage.options.overlay]\nmountopt = \"nodev,metacopy=on\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "CONTAINERS_STORAGE_CONF="+conf)
	if got := p.build().ok(); got.ImageID != want.ImageID {
		t.Errorf("with references it is image %s, want %s", got.ImageID, want.ImageID)
	}
}
