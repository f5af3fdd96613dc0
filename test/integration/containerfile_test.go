//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const containerfileRecipe = `version: 1
name: localhost/containerfile
args: {WORD: "two words"}
secrets: {token: {}}
stages:
  - name: Builder
    from: docker.io/library/pdibuild-test-base:1
    steps:
      - copy: hello.sh
        to: /src/
      - run: |
          # A comment, and an empty line:

          cat /src/hello.sh - <<END > /opt/hello
          # it's $WORD
          END
          chmod 755 /opt/hello
      - run: test "$(cat /run/secrets/token)" = VALUE && test "$TOKEN" = VALUE
        secrets: [{id: token, env: TOKEN}]
        workdir: /src
        env: {A: "$$5"}
  - name: final
    from: docker.io/library/pdibuild-test-base:1
    env: {PRICE: $$5, PATH: "/opt/bin:${PATH}"}
    steps:
      - copy: /opt/hello
        from: Builder
        to: /usr/local/bin/hello
        owner: pdi
      - user: {name: pdi, uid: 1001, home: /opt/pdi}
      - file: /etc/motd
        owner: pdi
        mode: "0640"
        content: |
          # it's "NONCE"

          \
      - run: id -un > me
        workdir: /opt/pdi
      - check: hello
    workdir: /opt/pdi
    entrypoint: [/usr/local/bin/hello]
    cmd: [world]
    labels: {org.example.label: 'say "$$5"'}
    expose: [8080]
`

// podman builds what pdibuild containerfile prints, and both images are alike.
func TestContainerfileIsBuiltByPodman(t *testing.T) {
	t.Parallel()
	needTool(t, "podman")
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: podman as the judge of Containerfiles is run by root")
	}
	value := nonce()
	p := newProject(t, strings.ReplaceAll(containerfileRecipe, "VALUE", value))
	p.write("hello.sh", "#!/bin/sh\necho hello $1\n")
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	podman := podmanStore(t)
	text := p.run("containerfile", p.dir)
	if text.code != 0 {
		t.Fatalf("containerfile: %s", text.stderr)
	}
	p.write("Containerfile", text.stdout)
	judge(t, "podman", append(podman[:len(podman):len(podman)], "build", "--format", "oci", "--network", "host", "--ulimit", "nofile=1024:1024", "--secret", "id=token,src="+secret, "-t", "localhost/by-podman", p.dir)...)
	p.loadInto(podman, "localhost/by-pdibuild:1", "--secret", "id=token,src="+secret)
	theirs, ours := configOf(t, podman, "localhost/by-podman"), configOf(t, podman, "localhost/by-pdibuild:1")
	if theirs != ours {
		t.Errorf("the images differ:\n%s\n%s\n%s", theirs, ours, text.stdout)
	}
	for _, name := range []string{"/usr/local/bin/hello", "/etc/motd", "/opt/pdi/me", "/etc/passwd"} {
		theirs, ours := fileOf(t, podman, "localhost/by-podman", name), fileOf(t, podman, "localhost/by-pdibuild:1", name)
		if theirs != ours {
			t.Errorf("%s is\n%s\nand with podman\n%s", name, ours, theirs)
		}
	}
}

// podmanStore is what makes podman use a store of its own, which has the base
// image.
func podmanStore(t *testing.T) []string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pdi") // podman takes at most 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(filepath.Join(dir, "r", "overlay"), syscall.MNT_DETACH)
		_ = os.RemoveAll(dir)
	})
	podman := []string{"--runtime", "runc", "--root", filepath.Join(dir, "r"), "--runroot", filepath.Join(dir, "x")}
	b := newProject(t, "version: 1\nstages:\n  - {name: base, from: BASE, env: {PATH: /usr/local/bin:/usr/bin:/bin}}\n")
	b.loadInto(podman, "docker.io/library/pdibuild-test-base:1")
	return podman
}

// loadInto builds the project and gives the image to podman.
func (p *project) loadInto(podman []string, tag string, args ...string) {
	p.t.Helper()
	archive := filepath.Join(p.t.TempDir(), "image.tar")
	p.build(append(args, "--tag", tag)...).ok()
	p.build(append(args, "--tag", tag, "-o", "type=docker-archive,dest="+archive)...).ok()
	judge(p.t, "podman", append(podman[:len(podman):len(podman)], "load", "-i", archive)...)
}

func configOf(t *testing.T, podman []string, image string) string {
	t.Helper()
	var found []struct {
		Config map[string]any
	}
	out := judge(t, "podman", append(podman[:len(podman):len(podman)], "image", "inspect", image)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if labels, ok := found[0].Config["Labels"].(map[string]any); ok {
		delete(labels, "io.buildah.version")
	}
	data, err := json.MarshalIndent(found[0].Config, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fileOf is a file with its attributes.
func fileOf(t *testing.T, podman []string, image, name string) string {
	t.Helper()
	args := append(podman[:len(podman):len(podman)], "run", "--rm", "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
		"--user=0", "--entrypoint", "/bin/sh", image, "-c", `stat -c '%a %u:%g' "$0"; cat "$0"`, name)
	return judge(t, "podman", args...)
}
