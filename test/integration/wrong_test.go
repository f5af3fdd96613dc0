//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a step shows when its files or its base are looked at. It
// is told with its place in the recipe, and nothing is kept of it.
func TestWrongInputHasAPlace(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.tar")
	if err := os.WriteFile(garbage, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, from, steps string
		words             []string
	}{
		{"a missing file", "scratch", "\n      - {file: /x, content: y}\n      - copy: dada\n        to: /x", []string{":7:9: stage \"s\", step 3 (copy dada → /x): copy dada: the build context has no such file or directory", "    7 |       - copy: dada", "hint: paths start at the build context"}},
		{"an image that is no directory", "oci:/no/such", " []", []string{":4:11: stage \"s\", step 1 (from oci:/no/such): from oci:/no/such: ", "no such file or directory", "hint: a relative path starts at"}},
		{"an image that is none", "docker-archive:" + garbage, " []", []string{":4:11: stage \"s\", step 1 (from docker-archive:", "garbage.tar: ", "unexpected EOF", "hint: a relative path starts at"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, "version: 1\nstages:\n  - name: s\n    from: '"+c.from+"'\n    steps:"+c.steps+"\n")
			p.freshStore()
			for i, w := range c.words {
				if strings.HasPrefix(w, ":") {
					c.words[i] = "error: " + filepath.Join(p.dir, "pdibuild.yaml") + w
				}
			}
			p.build("--tag", "localhost/wrong:test").fails(3, c.words...)
			if out := p.run("images", "--storage-root", p.store); strings.Contains(out.stdout, "wrong") || out.code != 0 {
				t.Errorf("there is an image (exit code %d)\n%s", out.code, out.stdout)
			}
		})
	}
}

// Where an archive cannot be, nothing is built for it.
func TestOutputWithoutAPlace(t *testing.T) {
	p := newProject(t, "version: 1\nname: localhost/wrong\nstages:\n  - {name: s, from: scratch, steps: [{file: /x, content: y}]}\n")
	p.freshStore()
	for dest, words := range map[string][]string{
		"/no/such/x.tar": {"the directory for x.tar", "mkdir -p /no/such"},
		p.dir:            {"is a directory", p.dir + "/image.tar"},
	} {
		p.build("-o", "type=oci-archive,dest="+dest).fails(2, words...)
	}
	if out := p.run("images", "--storage-root", p.store); strings.Contains(out.stdout, "wrong") {
		t.Errorf("an image was built\n%s", out.stdout)
	}
}

// A name is removed alone, however short it is written.
func TestRemoveShortName(t *testing.T) {
	p := newProject(t, "version: 1\nname: localhost/short\nstages:\n  - {name: s, from: scratch, steps: [{file: /x, content: y}]}\n")
	p.freshStore()
	p.build("--tag", "a", "--tag", "b", "--tag", "c").ok()
	for _, name := range []string{"short:a", "localhost/short:b"} {
		if o := p.run("rm", "--storage-root", p.store, name); o.code != 0 {
			t.Fatalf("exit code %d\n%s", o.code, o.stderr)
		}
	}
	if out := p.run("images", "--storage-root", p.store); !strings.Contains(out.stdout, "localhost/short:c") || strings.Contains(out.stdout, "short:a") {
		t.Errorf("the images are\n%s", out.stdout)
	}
}
