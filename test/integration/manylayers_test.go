//go:build integration

package integration

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/test/busybox"
)

// manyLayers is an image with a shell and so many layers; each has a file that
// belongs to another user.
func manyLayers(t *testing.T, n int) *handmade {
	t.Helper()
	program, err := os.ReadFile(busybox.Find(t))
	if err != nil {
		t.Fatal(err)
	}
	h := newHandmade(t)
	h.layer(func(w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}); err != nil {
			return err
		}
		if _, err := w.Write(program); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "busybox"})
	})
	for i := 1; i < n; i++ {
		h.layer(func(w *tar.Writer) error {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("data/f%d", i), Mode: 0o644, Uid: 5, Gid: i, Size: 1}); err != nil {
				return err
			}
			_, err := io.WriteString(w, "x")
			return err
		})
	}
	return h
}

// An image of many layers is built on as any other, for every user with the
// owners that its layers say; more than Docker can mount are spoken of once.
func TestManyLayers(t *testing.T) {
	t.Parallel()
	base := manyLayers(t, 130).reference()
	p := newProject(t, "version: 1\nname: localhost/many\nstages:\n  - name: final\n    from: "+base+`
    steps:
      - run: |
          set -e
          for i in 1 64 129; do test "$(busybox stat -c %u:%g /data/f$i)" = 5:$i; done
          busybox rm /data/f64; echo NONCE >/data/new
      - run: test ! -e /data/f64 && test -e /data/f63
`)
	o := p.build().ok()
	if o.Layers != 131 || strings.Count(o.stderr, "the image has 131 layers: Docker's overlay2 mounts 127 at most") != 1 {
		t.Errorf("%d layers\n%s", o.Layers, o.stderr)
	}
	again := p.build("--no-cache").ok()
	if again.ImageID != o.ImageID {
		t.Errorf("the second build has image %s, the first %s", again.ImageID, o.ImageID)
	}
	export := func(format string) outcome {
		return p.run("export", "--storage-root", p.store, o.ImageID, format+":/dev/null")
	}
	if e := export("docker-archive"); e.code != 0 || !strings.Contains(e.stderr, "131 layers") {
		t.Errorf("exit code %d\n%s", e.code, e.stderr)
	}
	if e := export("oci-archive"); e.code != 0 || strings.Contains(e.stderr, "131 layers") {
		t.Errorf("exit code %d\n%s", e.code, e.stderr)
	}
}
