//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inEachIsolation runs a test with an OCI runtime, if one works here, and
// without.
func inEachIsolation(t *testing.T, test func(t *testing.T, isolation string)) {
	for _, isolation := range []string{"chroot", "oci"} {
		t.Run(isolation, func(t *testing.T) {
			if isolation == "oci" && (!hasRuntime() || kindOfUser() == asSingle) {
				t.Skip("SKIPPED: no OCI runtime works here")
			}
			test(t, isolation)
		})
	}
}

// A bind mount without a source shows all of the context or of the stage.
func TestBindMountOfEverything(t *testing.T) {
	t.Parallel()
	inEachIsolation(t, func(t *testing.T, isolation string) {
		p := newSmall(t, `
  - name: final
    from: small
    steps:
      - run: test -e /m/bin/busybox && test -e /c/pdibuild.yaml && ! touch /c/x && ! touch /m/x # NONCE
        mounts: [{type: bind, from: small, target: /m}, {type: bind, target: /c}]
`)
		p.build("--isolation", isolation).ok()
	})
}

// A step may write to a bind mount where the recipe says so. The context and the
// stage stay as they are, and the next step finds them so; a shell in a failed
// step finds what the step has written.
func TestWritesToBindMountsAreLost(t *testing.T) {
	t.Parallel()
	const steps = `
  - name: final
    from: small
    steps:
      - run: echo new >/c/d/f && rm /c/gone && rmdir /c/empty && mkdir /c/empty && touch /c/empty/x && echo y >/file && cat /c/d/link && ln /c/d/f /c/d/hard && touch /m/x # NONCE
        mounts:
          - {type: bind, target: /c, write: true}
          - {type: bind, source: gone, target: /file, write: true}
          - {type: bind, from: small, target: /m, write: true}
      - run: test "$(cat /c/d/f /c/gone)" = "$(printf 'old\ngone')" && test ! -e /c/empty/x -a ! -e /m/x && rm /c/gone && touch /c/t/x && MORE
        mounts:
          - {type: tmpfs, target: /c/t}
          - {type: bind, target: /c, write: true}
          - {type: bind, from: small, target: /m}
`
	inEachIsolation(t, func(t *testing.T, isolation string) {
		p := newSmall(t, strings.ReplaceAll(steps, "MORE", "true"))
		p.write("d/f", "old\n")
		p.write("gone", "gone\n")
		if err := os.Mkdir(filepath.Join(p.dir, "empty"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("f", filepath.Join(p.dir, "d/link")); err != nil {
			t.Fatal(err)
		}
		p.build("--isolation", isolation).ok().says("final | new")
		if got := p.read("d/f") + p.read("gone"); got != "old\ngone\n" {
			t.Errorf("the context has changed: %q", got)
		}
		if _, err := os.Stat(filepath.Join(p.dir, "t")); err == nil {
			t.Error("a mount point was made in the context")
		}
		p.recipe(smallBase + strings.ReplaceAll(steps, "MORE", "exit 9"))
		p.build("--isolation", isolation).fails(4)
		p.in("shell", "--failed", p.dir, "--", "sh", "-c", "ls -d /c/gone 2>/dev/null; ls /c/d").prints("f\nlink\n")
	})
}

// A cache mount has the owner and the mode that the recipe names, also when it
// exists already, and whoever builds; its owner can write to it.
func TestCacheMountHasOwner(t *testing.T) {
	t.Parallel()
	const stages = `
  - name: final
    from: small
    steps:
      - user: {name: app, uid: 1234, gid: 50}
      - run: stat -c '%u:%g %a' /c /d && { touch /d/x || true; }
        mounts: [{type: cache, target: /c, id: a-NONCE}, {type: cache, target: /d, id: b-NONCE}]
`
	const owned = `
      - run: stat -c '%u:%g %a' /c /d && touch /c/x /d/x && rm /c/x /d/x
        mounts:
          - {type: cache, target: /c, id: a-NONCE, owner: app}
          - {type: cache, target: /d, id: b-NONCE, owner: "root:50", mode: 02775}
`
	inEachIsolation(t, func(t *testing.T, isolation string) {
		p := newSmall(t, stages)
		roots := "0:0"
		if kindOfUser() == asSingle {
			roots = "1234:50" // the one id that there is shows up as the user's
		}
		p.build("--isolation", isolation).ok().says("final | " + roots + " 755")
		p.recipe(smallBase + stages + owned)
		p.build("--isolation", isolation).ok().says("final | 1234:50 755", "final | 0:50 2775")
		p.recipe(smallBase + stages + strings.ReplaceAll(owned, "owner: app", "owner: nosuch"))
		p.build("--isolation", isolation).fails(3, `no user "nosuch"`)
	})
	if kindOfUser() != asSingle {
		p := newSmall(t, strings.Replace(stages, "|| true", "", 1))
		p.build().fails(4, "the cache mount at /d belongs to root: add 'owner: app' to it")
	}
}

// Mount points are found inside of the image: through its links, below other
// mounts of the step in whatever order these are written, and they do not stay.
func TestMountPoints(t *testing.T) {
	t.Parallel()
	inEachIsolation(t, func(t *testing.T, isolation string) {
		p := newSmall(t, `
  - name: odd
    from: small
    steps:
      - {copy: odd, to: /}
  - name: final
    from: odd
    steps:
      - run: |
          : NONCE
          touch /a/b/c/x /opt/real/deep/x /new/x && test "$(cat /a/b/secret)" = $S
          ls -d /etc/resolv.conf/keep
        secrets: [{id: s, target: /a/b/secret, env: S}]
        mounts:
          - {type: tmpfs, target: /a/b/c}
          - {type: tmpfs, target: /link/deep}
          - {type: tmpfs, target: /up}
          - {type: cache, target: /a, id: NONCE}
      - run: test ! -e /a -a ! -e /opt/real/deep -a ! -e /new -a -h /etc/hosts
secrets: {s: {env: SECRET}}
`)
		p.write("odd/etc/resolv.conf/keep", "")
		p.write("odd/opt/real/keep", "")
		for name, to := range map[string]string{"etc/hosts": "hosts", "link": "/opt/real", "up": "../../../new"} {
			if err := os.Symlink(to, filepath.Join(p.dir, "odd", name)); err != nil {
				t.Fatal(err)
			}
		}
		p.env = []string{"SECRET=secret-" + p.nonce}
		p.build("--isolation", isolation).ok()
		for mount, want := range map[string]string{
			"{type: tmpfs, target: /file}":                                                        "mount point /file: it cannot be mounted there: it is a file",
			"{type: tmpfs, target: /file/below}":                                                  "mount point /file/below: it cannot be mounted there",
			"{type: bind, source: pdibuild.yaml, target: /run}":                                   "mount point /run: it cannot be mounted there: it is a directory",
			"{type: tmpfs, target: /loop}":                                                        "mount point /loop: it cannot be mounted there",
			"{type: tmpfs, target: /tokernel/x}":                                                  "mount point /tokernel/x: it cannot be mounted there",
			"{type: tmpfs, target: /toroot}":                                                      "it would hide the whole image",
			"{type: bind, source: d, target: /src}, {type: tmpfs, target: /src/new}":              "mount point /src/new: it is in a mount that cannot be written to",
			"{type: bind, source: d, target: /src, write: true}, {type: tmpfs, target: /src/new}": "",
		} {
			q := newSmall(t, `
  - name: final
    from: small
    steps:
      - run: ln -s /opt/real /link; ln -s /loop /loop; ln -s /proc /tokernel; ln -s / /toroot; mkdir -p /opt/real /run; echo f >/file
      - run: echo NONCE
        mounts: [`+mount+`]
`)
			q.write("d/f", "f")
			if o := q.build("--isolation", isolation); want == "" {
				o.ok()
			} else {
				o.fails(3, want)
			}
		}
	})
}
