//go:build integration

package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pdidev/pdibuild/test/busybox"
	"github.com/pdidev/pdibuild/test/registry"
)

// A scene is a registry with a base image, and a context whose recipe has a
// bit of everything.
type scene struct {
	dir, context string
	registry     string
	busybox      string
}

const baseRecipe = `version: 1
name: localhost/base
stages:
  - name: final
    from: scratch
    steps:
      - {copy: busybox, to: /bin/busybox, mode: "0755"}
      - run: [/bin/busybox, --install, -s, /bin]
      - {file: /etc/passwd, content: "root:x:0:0:root:/root:/bin/sh\n"}
      - {file: /etc/base, content: "BASE\n"}
`

// REGISTRY and DIR are replaced. Two bases come from a registry and a file,
// two stages run side by side, and steps add, change, remove, link and give
// away files.
const recipeText = `version: 1
name: localhost/torture
secrets: {token: {optional: true}}
stages:
  - name: made
    from: REGISTRY/torture/base:1
    steps:
      - {copy: data, to: /opt/data}
      - run: mkdir -p /opt/made/many && cp -r /opt/data /opt/made/ && for i in $(seq 300); do echo $i > /opt/made/many/$i || exit 1; done
      - {run: "cp /opt/data/large0 /opt/made/again && rm -rf /opt/data && ln /opt/made/again /opt/made/link", secrets: [token]}
  - name: filed
    from: oci-archive:DIR/base.tar
    steps:
      - {copy: small, to: /small}
      - run: sleep 0.2; echo done > /small/done
  - name: final
    from: REGISTRY/torture/base:1
    steps:
      - {copy: /opt/made, from: made, to: /opt/made}
      - {copy: /small, from: filed, to: /opt/small}
      - {file: /etc/motd, content: "hello\n"}
      - user: {name: pdi, uid: 1001, gid: 1001, home: /opt/pdi}
      - {run: "chown -R 1001:1001 /opt/small && rm -rf /opt/made/many && rm /etc/base", user: root}
      - check: test -f /opt/small/done
    cmd: [cat, /etc/motd]
`

// newScene makes one. Its data are the same for the same seed.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir(), busybox: busybox.Find(t)}
	s.registry = registry.Start(t, registry.Options{})
	s.context = filepath.Join(s.dir, "context")
	data := rand.New(rand.NewPCG(*seed, 0))
	for i := range 3 {
		s.write(t, fmt.Sprintf("data/large%d", i), noise(data, 2<<20))
	}
	for i := range 60 {
		s.write(t, fmt.Sprintf("data/d%d/f%d", i%7, i), noise(data, 1+data.IntN(30000)))
	}
	s.write(t, "small/a", []byte("a\n"))
	s.write(t, "pdibuild.yaml", []byte(strings.NewReplacer("REGISTRY", s.registry, "DIR", s.dir).Replace(recipeText)))
	store := s.newStore(t, "bases")
	for name, output := range map[string][]string{"one": {"--push", "-t", s.registry + "/torture/base:1"}, "two": {"-o", "type=oci-archive,dest=" + filepath.Join(s.dir, "base.tar")}} {
		dir := filepath.Join(s.dir, "base-"+name)
		busybox, err := os.ReadFile(s.busybox)
		if err := errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "busybox"), busybox, 0o755),
			os.WriteFile(filepath.Join(dir, "pdibuild.yaml"), []byte(strings.ReplaceAll(baseRecipe, "BASE", name)), 0o644)); err != nil {
			t.Fatal(err)
		}
		store.must(append(append([]string{"build", "--tls-verify=false"}, output...), dir)...)
	}
	store.remove()
	return s
}

func noise(from *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from.Uint32())
	}
	return b
}

func (s *scene) write(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(s.context, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// A store is an image store with a directory for temporary files of its own.
type store struct {
	t         *testing.T
	dir, temp string
	// env and wrap are added to the program's environment and put before it.
	env, wrap []string
}

func (s *scene) newStore(t *testing.T, name string) *store {
	t.Helper()
	st := &store{t: t, dir: filepath.Join(s.dir, name, "store"), temp: filepath.Join(s.dir, name, "tmp")}
	if err := errors.Join(os.MkdirAll(st.dir, 0o700), os.MkdirAll(st.temp, 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.remove)
	return st
}

// remove removes what may belong to ids that only exist in a namespace.
func (st *store) remove() {
	out, err := inNamespace(exec.Command("rm", "-rf", filepath.Dir(st.dir))).CombinedOutput()
	if err != nil {
		st.t.Errorf("remove the store: %v\n%s", err, out)
	}
}

// command is the program with these arguments on this store, as the leader of
// a session of its own.
func (st *store) command(args ...string) *exec.Cmd {
	all := slices.Concat(st.wrap, []string{program}, args[:1], []string{"--storage-root", st.dir}, args[1:])
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), append([]string{"TMPDIR=" + st.temp, "TORTURE_TOKEN=a-secret-that-nobody-guesses"}, st.env...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// An outcome is how a run of the program ended.
type outcome struct {
	code           int
	stdout, stderr string
}

func (st *store) run(args ...string) outcome {
	st.t.Helper()
	cmd := st.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		st.t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs what has to succeed.
func (st *store) must(args ...string) outcome {
	st.t.Helper()
	o := st.run(args...)
	if o.code != 0 {
		st.t.Fatalf("seed %d: pdibuild %s: exit code %d\n%s", *seed, strings.Join(args, " "), o.code, o.stderr)
	}
	return o
}

// A job is a build with everything that can follow it.
type job struct {
	*scene
	tag      string
	archive  string
	metadata string
}

// job exports and pushes under a name of its own.
func (s *scene) job(name string) job {
	return job{s, s.registry + "/torture/" + name + ":1", filepath.Join(s.dir, name, "image.tar"), filepath.Join(s.dir, name, "metadata.json")}
}

func (j job) args() []string {
	return []string{
		"build", "--progress", "json", "--tls-verify=false", "--secret", "id=token,env=TORTURE_TOKEN", "--metadata-file", j.metadata,
		"-o", "type=oci-archive,dest=" + j.archive, "--push", "-t", j.tag, j.context,
	}
}

// A result is what --metadata-file says.
type result struct {
	ImageID  string `json:"image_id"`
	Digest   string `json:"containerimage.digest"`
	Cached   int    `json:"steps_cached"`
	Executed int    `json:"steps_executed"`
}

func (j job) result(t *testing.T) (r result) {
	t.Helper()
	data, err := os.ReadFile(j.metadata)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}
