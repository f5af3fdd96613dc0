//go:build integration

package integration

import "testing"

// All that a command does to files of layers below is in the image, the same one
// with every driver, also where size, time, mode and owner are as before.
func TestTouchedFilesOfLayersBelow(t *testing.T) {
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
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: mkdir -p /w/d /w/e; echo 1 >/w/d/f; echo 2 >/w/e/f; find /w -exec touch -d @0 {} +
      - run: cd /w; mv d z; mv e d; mv z e
      - run: test "$(cat /w/d/f /w/e/f)" = "$(printf '2\n1')"
`)
	p.exportEverywhere("places")
}
