//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The kinds of users that build images.
const (
	asRoot   = "root"   // uid 0
	asSub    = "sub"    // an ordinary user with a range in /etc/subuid
	asSingle = "single" // an ordinary user without
)

// kindOfUser says who runs the tests.
func kindOfUser() string {
	if os.Geteuid() == 0 {
		return asRoot
	}
	names := []string{strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		names = append(names, u.Username)
	}
	data, err := os.ReadFile("/etc/subuid")
	if _, tool := exec.LookPath("newuidmap"); err != nil || tool != nil {
		return asSingle
	}
	for _, line := range strings.Split(string(data), "\n") {
		for _, name := range names {
			if strings.HasPrefix(line, name+":") {
				return asSub
			}
		}
	}
	return asSingle
}

// podmans keeps podmans apart: all have the same locks in memory.
var podmans sync.Mutex

// needTool skips where the host lacks a program that judges.
func needTool(t *testing.T, name string) {
	t.Helper()
	if name == "podman" {
		podmans.Lock()
		t.Cleanup(podmans.Unlock)
	}
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: this test needs %s, and it is not installed", name)
	}
}

// nonce is a word that no other test or run has.
func nonce() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// A project is a build context and how it is built.
type project struct {
	t     *testing.T
	dir   string
	store string
	// nonce replaces NONCE in the recipe, so that no earlier run has cached
	// its steps.
	nonce string
	// env is added to the environment of the program.
	env []string
}

// newProject makes a context that holds the recipe and nothing else.
func newProject(t *testing.T, recipe string) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir(), store: storeOf(t), nonce: nonce()}
	p.recipe(recipe)
	return p
}

// recipe replaces the recipe. NONCE and BASE in it are replaced.
func (p *project) recipe(text string) {
	p.t.Helper()
	text = strings.ReplaceAll(text, "NONCE", p.nonce)
	if strings.Contains(text, "BASE") {
		text = strings.ReplaceAll(text, "BASE", base(p.t))
	}
	p.write("pdibuild.yaml", text)
}

// write puts a file into the context.
func (p *project) write(name, content string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

// read returns a file of the context.
func (p *project) read(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// sha256Hex is what sha256sum prints.
func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// freshStore gives the project a store that holds nothing.
func (p *project) freshStore() {
	p.t.Helper()
	dir, err := os.MkdirTemp(storeRoot, "fresh-")
	if err != nil {
		p.t.Fatal(err)
	}
	p.store = dir
	p.t.Cleanup(func() { removeStore(p.t, dir) })
}

// removeStore removes what may belong to ids that only exist in a namespace.
func removeStore(t *testing.T, dir string) {
	out, err := inNamespace(exec.Command("sh", "-c", `chmod -R u+rwX "$1" 2>/dev/null; rm -rf "$1"`, "sh", dir)).CombinedOutput()
	if err != nil {
		t.Errorf("remove the store %s: %v\n%s", dir, err, out)
	}
}

// inNamespace makes cmd run as root of a user namespace that has this user's
// subordinate ids, so that it may read and remove every file of a store.
func inNamespace(cmd *exec.Cmd) *exec.Cmd {
	var args []string
	switch kindOfUser() {
	case asRoot:
		return cmd
	case asSub:
		args = []string{"--map-auto"}
	}
	args = append(append(args, "--map-root-user", "--"), cmd.Args...)
	wrapped := exec.Command("unshare", args...)
	wrapped.Env, wrapped.Stdin, wrapped.Dir = cmd.Env, cmd.Stdin, cmd.Dir
	return wrapped
}

// A metadata is what --metadata-file says.
type metadata struct {
	ImageID  string `json:"image_id"`
	Digest   string `json:"containerimage.digest"`
	Cached   int    `json:"steps_cached"`
	Executed int    `json:"steps_executed"`
	LogDir   string `json:"log_dir"`
	Layers   int    `json:"layers"`
}

// An outcome is how one run of the program ended.
type outcome struct {
	t              *testing.T
	code           int
	stdout, stderr string
	took           time.Duration
	metadata
}

// buildArgs are the arguments of a build of the project.
func (p *project) buildArgs(args ...string) []string {
	all := []string{"build", "--storage-root", p.store, "--progress", "plain"}
	return append(append(all, args...), p.dir)
}

// build builds the project. What goes wrong is in the outcome.
func (p *project) build(args ...string) outcome {
	p.t.Helper()
	meta := filepath.Join(p.t.TempDir(), "metadata.json")
	o := p.run(p.buildArgs(append([]string{"--metadata-file", meta}, args...)...)...)
	if o.code != 0 {
		return o
	}
	data, err := os.ReadFile(meta)
	if err == nil {
		err = json.Unmarshal(data, &o.metadata)
	}
	if err != nil {
		p.t.Fatalf("--metadata-file: %v", err)
	}
	return o
}

// command is the program with these arguments, in a process group of its own.
func (p *project) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// programLimit ends what hangs, also where a busy machine makes all of it slow.
const programLimit = 20 * time.Minute

// run runs the program to its end.
func (p *project) run(args ...string) outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), programLimit)
	defer cancel()
	cmd := p.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		p.t.Fatalf("pdibuild %s took more than %v\n%s", strings.Join(args, " "), programLimit, stderr.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return outcome{t: p.t, code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), took: time.Since(start)}
}

var imageID = regexp.MustCompile(`^[0-9a-f]{64}\n$`)

// ok fails the test unless the build has succeeded and printed an id alone.
func (o outcome) ok() outcome {
	o.t.Helper()
	if o.code != 0 {
		o.t.Fatalf("exit code %d, want 0\n%s", o.code, o.stderr)
	}
	if !imageID.MatchString(o.stdout) {
		o.t.Fatalf("stdout is %q, want an image id alone", o.stdout)
	}
	if o.ImageID != strings.TrimSpace(o.stdout) {
		o.t.Fatalf("--metadata-file has the id %q, stdout %q", o.ImageID, o.stdout)
	}
	return o
}

// fails fails the test unless the build has ended with code, has printed no
// id, and has said every one of these words.
func (o outcome) fails(code int, words ...string) outcome {
	o.t.Helper()
	if o.code != code {
		o.t.Fatalf("exit code %d, want %d\n%s", o.code, code, o.stderr)
	}
	if o.stdout != "" {
		o.t.Errorf("stdout is %q, want nothing", o.stdout)
	}
	o.says(words...)
	return o
}

// says fails the test unless stderr has all the words.
func (o outcome) says(words ...string) {
	o.t.Helper()
	for _, w := range words {
		if !strings.Contains(o.stderr, w) {
			o.t.Errorf("the message does not say %q:\n%s", w, o.stderr)
		}
	}
}

// wantSteps compares the number of steps that were cached and executed.
func (o outcome) wantSteps(cached, executed int) {
	o.t.Helper()
	if o.Cached != cached || o.Executed != executed {
		o.t.Errorf("%d steps cached and %d executed, want %d and %d\n%s", o.Cached, o.Executed, cached, executed, o.stderr)
	}
}

// export builds the project and returns the image as anybody sees it who has
// only an OCI directory.
func (p *project) export(args ...string) (*ociImage, outcome) {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "oci")
	o := p.build(append([]string{"--compression", "none", "-o", "type=oci,dest=" + dir}, args...)...).ok()
	return readOCI(p.t, dir), o
}

// judge runs another program, such as podman, and returns its output.
func judge(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tryJudge(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func tryJudge(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), programLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// waitLimit is when something that happens at once, but for a busy machine, has
// not happened.
const waitLimit = 5 * time.Minute

// eventually waits until condition holds, and fails the test if it never does.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not true: %s", waitLimit, what)
		}
	}
}
