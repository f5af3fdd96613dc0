//go:build integration

package integration

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a step shows when its files or its base are looked at. It
// is told with its place in the recipe, and nothing is kept of it.
func TestWrongInputHasAPlace(t *testing.T) {
	t.Parallel()
	garbage := filepath.Join(t.TempDir(), "garbage.tar")
	if err := os.WriteFile(garbage, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, from, steps string
		words             []string
	}{
		{"a missing file", "scratch", "\n      - {file: /x, content: y}\n      - copy: dada\n        to: /x", []string{":7:9: stage \"s\", step 3 (copy dada → /x): copy dada: the build context has no such file or directory", "    7 |       - copy: dada", "hint: paths start at the build context"}},
		{"an image that is no directory", "oci:/no/such", " []", []string{":4:11: stage \"s\", step 1 (from oci:/no/such): from oci:/no/such: ", "no such file or directory", "hint: write oci:DIR"}},
		{"an image that is none", "docker-archive:" + garbage, " []", []string{":4:11: stage \"s\", step 1 (from docker-archive:", "garbage.tar: ", "unexpected EOF", "hint: the image is damaged"}},
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
	t.Parallel()
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
	t.Parallel()
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

// Owners beyond the range of /etc/subuid are an error that names the range, the
// ids, the file and the ways out; with all ids, or a single one, they are no
// problem.
func TestIDsBeyondTheRange(t *testing.T) {
	t.Parallel()
	big := file("opt/big", "x")
	big.Uid, big.Gid = 205001, 5000
	image := newHandmade(t).layer(of(tar.Header{Typeflag: tar.TypeDir, Name: "opt"}, big)).reference()
	for name, test := range map[string]struct {
		from, step string
		code       int
		words      []string
	}{
		"base":  {image, "file: /x\n        content: x", 5, []string{"step 1", "owner 205001:5000 of file /opt/big"}},
		"copy":  {"scratch", "{copy: pdibuild.yaml, to: /g, owner: '70000:5'}", 5, []string{"step 2", "owner 70000:5 of file /g"}},
		"user":  {"BASE", "{run: 'true', user: '70000:70000'}", 5, []string{"step 2", "the step's user 70000:70000"}},
		"chown": {"BASE", "{run: 'echo x >/opt/f && chown 70000 /opt/f'}", 4, []string{"step 2", "an id that this user does not have"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, "version: 1\nstages:\n  - name: s\n    from: "+test.from+"\n    env: {RUN_ID: NONCE}\n    steps:\n      - "+test.step+"\n")
			o := p.build()
			if kindOfUser() != asSub {
				o.ok()
				return
			}
			o.fails(test.code, test.words...)
			o.says("0-65536", "/etc/subuid", "unshare --map-root-user", "usermod --add-subuids")
			if strings.Contains(o.stderr, "damaged") || strings.Contains(o.stderr, "fix the step") {
				t.Errorf("the hint is about something else:\n%s", o.stderr)
			}
		})
	}
}
