//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// What a stopped build has finished is not done again.
func TestFinishedStepsAreKept(t *testing.T) {
	t.Parallel()
	recipe := func(third string) string {
		return `version: 1
stages:
  - name: final
    from: BASE
    steps:
      - run: echo NONCE > /opt/one
      - run: echo two > /opt/two
      - run: ` + third + `
      - run: echo four > /opt/four
`
	}
	p := newProject(t, recipe("sh -c 'echo about to fail; exit 3'"))
	o := p.build().fails(4, `stage "final"`, "step 4", "exit status 3", "about to fail")
	log := o.stderr[strings.Index(o.stderr, "all of its output: ")+len("all of its output: "):]
	if data, err := os.ReadFile(strings.SplitN(log, "\n", 2)[0]); err != nil || !strings.Contains(string(data), "about to fail") {
		t.Errorf("the log that the error names: %v, %q", err, data)
	}
	p.recipe(recipe("echo three > /opt/three"))
	o = p.build().ok()
	o.wantSteps(3, 2)
	again := p.build().ok()
	again.wantSteps(5, 0)
	if again.ImageID != o.ImageID {
		t.Errorf("the second build made %s, the first %s", again.ImageID, o.ImageID)
	}
}

// A signal stops the command and all that it has started.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			p, seconds := sleeper(t)
			cmd := p.command(p.buildArgs()...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the step runs", func() bool { return sleeping(seconds) == 2 })
			start := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if took := time.Since(start); took > 30*time.Second { // it takes none, but for a busy machine
				t.Errorf("it took %v to stop", took)
			}
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
			if n := sleeping(seconds); n != 0 {
				t.Errorf("%d processes of the step are left", n)
			}
			noWorkIsLeft(t, p.store)
		})
	}
}

// What a signal or the failure of another stage has ended is stopped, not failed.
func TestStopped(t *testing.T) {
	t.Parallel()
	seconds := ownSeconds()
	p := newProject(t, `
version: 1
stages:
  - {name: slow, from: BASE, steps: [{run: 'echo READY; touch /c/ready; sleep `+seconds+`', mounts: [{type: cache, target: /c, id: NONCE}]}]}
  - {name: broken, from: BASE, steps: [{run: 'WAIT', mounts: [{type: cache, target: /c, id: NONCE}]}]}
  - name: final
    from: BASE
    steps:
      - {copy: /etc/passwd, from: slow, to: /opt/a}
      - {copy: /etc/passwd, from: broken, to: /opt/b}
`)
	recipe := p.read("pdibuild.yaml")
	p.recipe(strings.ReplaceAll(recipe, "WAIT", "until test -e /c/ready; do sleep 0.1; done; exit 3"))
	o := p.build("--jobs", "4")
	o.fails(4, `stage "broken", step 2`, "[slow 2/2] stopped after", "[broken 2/2] failed after")
	if strings.Contains(o.stderr, "[slow 2/2] failed") {
		t.Errorf("the other stage has failed, too:\n%s", o.stderr)
	}
	p.recipe(strings.ReplaceAll(recipe, "WAIT", "echo READY again; sleep "+seconds)) // the same step would run once
	s := p.start("--jobs", "4")
	eventually(t, "both steps run", func() bool { return sleeping(seconds) == 2 })
	s.signal(syscall.SIGINT, false)
	s.end()
	out := s.stderr.String()
	for _, want := range []string{"[slow 2/2] stopped after", "error: stopped by Ctrl-C (SIGINT)", "hint: finished steps are kept"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "failed") || strings.Contains(out, "interrupt)") {
		t.Errorf("it says that something has failed:\n%s", out)
	}
}

// After a kill -9 nothing runs on, and the next build clears up.
func TestKilled(t *testing.T) {
	t.Parallel()
	p, seconds := sleeper(t)
	cmd := p.command(p.buildArgs()...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the step runs", func() bool { return sleeping(seconds) == 2 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the step's processes are gone", func() bool { return sleeping(seconds) == 0 })
	p.recipe("version: 1\nstages:\n  - name: final\n    from: BASE\n    steps: [{run: echo NONCE > /opt/x}]\n")
	p.build().ok()
	noWorkIsLeft(t, p.store)
}

// sleeper is a project whose step sleeps in the foreground and background for
// a number of seconds that nobody else sleeps.
func sleeper(t *testing.T) (p *project, seconds string) {
	seconds = ownSeconds()
	return newProject(t, `version: 1
stages:
  - name: final
    from: BASE
    steps:
      - run: sleep `+seconds+` & setsid sleep `+seconds+`; echo NONCE
`), seconds
}

// ownSeconds is a time that nobody else sleeps.
func ownSeconds() string {
	return "98" + strings.Map(func(r rune) rune { return '0' + r%10 }, nonce()[:7])
}

func sleeping(seconds string) int {
	out, _ := exec.Command("pgrep", "-fc", "^sleep "+seconds+"$").Output()
	n := 0
	for _, r := range strings.TrimSpace(string(out)) {
		n = 10*n + int(r-'0')
	}
	return n
}

// noWorkIsLeft looks for working layers and mounts.
func noWorkIsLeft(t *testing.T, store string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(store, "pdibuild", "work", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("working layers are left: %v %v", left, err)
	}
	noMountHas(t, store+"/overlay/")
}

// noMountHas looks for mounts from or at paths that begin with this one.
func noMountHas(t *testing.T, path string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), path) {
		t.Errorf("a mount of the store is left:\n%s", mounts)
	}
}

// The same recipe gives the same image in any store, with any isolation, and
// with a driver that knows nothing of overlays and links no files.
func TestReproducible(t *testing.T) {
	t.Parallel()
	p := newProject(t, `version: 1
stages:
  - name: made
    from: BASE
    steps:`+strangeTree+`
      - run: rm -rf /var/lib/dpkg/info; mkdir /var/lib/dpkg/info; touch /tmp/x; rm /tmp/x; ln -s a /opt/l
  - name: final
    from: scratch # vfs copies all of a stage for each step
    steps:
      - {copy: /t, from: made, to: /t}
      - {copy: /etc/passwd, from: made, to: /etc/passwd}
      - {copy: /opt, from: made, to: /opt}
      - {copy: /var/lib/dpkg, from: made, to: /var/lib/dpkg}
      - copy: data
        to: /opt/data
        owner: games
      - user: {name: pdi, uid: 1001}
`)
	p.write("data/a", "a\n")
	p.write("data/sub/b", "b\n")
	first := p.build().ok()
	for _, isolation := range []string{"chroot", "oci"} {
		if isolation == "oci" && kindOfUser() == asSingle {
			continue
		}
		o := p.build("--no-cache", "--isolation", isolation)
		if o.code == 5 {
			t.Logf("SKIPPED: this host has no working OCI runtime:\n%s", o.stderr)
			continue
		}
		if o.ok().ImageID != first.ImageID {
			t.Errorf("--isolation %s made %s, want %s", isolation, o.ImageID, first.ImageID)
		}
	}
	p.freshStore()
	if o := p.build("--storage-driver", "vfs").ok(); o.ImageID != first.ImageID {
		t.Errorf("in another store with vfs it is %s, want %s", o.ImageID, first.ImageID)
	}
	tell(t, "reproducible", first.ImageID)
}

// tell writes an image id to where it is compared with other users' ids.
func tell(t *testing.T, name, id string) {
	dir := os.Getenv("PDIBUILD_TEST_IDS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, kindOfUser()+"."+name), []byte(name+" "+id+"\n"), 0o644); err != nil {
		t.Error(err)
	}
}

// The image goes to a registry with a password and comes back.
func TestPushAndPull(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	address := registry.Start(t, registry.Options{User: "hpc", Password: "s3cret pass"})
	name := address + "/group/app:1"
	p := newProject(t, "version: 1\nstages:\n  - name: final\n    from: scratch\n    steps: [{file: /f, content: NONCE}]\n")
	o := p.build("-t", name, "--push", "--tls-verify=false", "--creds", "hpc:wrong")
	o.fails(7, "hint:", "--creds")
	o = p.build("-t", name, "--push", "--tls-verify=false", "--creds", "hpc:s3cret pass").ok()
	out := judge(t, "skopeo", "inspect", "--config", "--tls-verify=false", "--creds", "hpc:s3cret pass", "docker://"+name)
	if !strings.Contains(out, `"architecture"`) {
		t.Errorf("skopeo sees %s", out)
	}
	next := newProject(t, "version: 1\nstages:\n  - name: final\n    from: "+name+"\n    steps: [{copy: /f, from: old, to: /g}]\n  - {name: old, from: "+name+"}\n")
	next.recipe("version: 1\nstages:\n  - {name: old, from: " + name + "}\n  - name: final\n    from: old\n    steps: [{copy: /f, from: old, to: /g}]\n")
	next.freshStore()
	next.build("--tls-verify=false").fails(7)
	next.build("--tls-verify=false", "--creds", "hpc:s3cret pass").ok()
	if o.Layers != 1 {
		t.Errorf("%d layers, want 1", o.Layers)
	}
}

// An image can leave in any of three forms, and each is a base again.
func TestExportAndFrom(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\nstages:\n  - name: final\n    from: scratch\n    env: {WHO: NONCE}\n    steps: [{file: /f, content: x}]\n")
	dir := t.TempDir()
	p.build("-o", "type=oci-archive,dest="+dir+"/a.tar", "-o", "type=oci,dest="+dir+"/o", "-o", "type=docker-archive,dest="+dir+"/d.tar").ok()
	for _, from := range []string{"oci-archive:" + dir + "/a.tar", "oci:" + dir + "/o", "docker-archive:" + dir + "/d.tar"} {
		next := newProject(t, "version: 1\nstages:\n  - name: final\n    from: "+from+"\n    steps: [{file: /g, content: y}]\n")
		image, _ := next.export()
		if env := strings.Join(image.config.Config.Env, " "); !strings.Contains(env, "WHO="+p.nonce) {
			t.Errorf("from %s: the environment is %q", from, env)
		}
	}
}

// example is the context of the README's example.
func example() string {
	repo := os.Getenv("PDIBUILD_REPO")
	if repo == "" {
		repo = "../.."
	}
	return filepath.Join(repo, "examples", "hello-mpi")
}

// helloMPI gives the project's store the example's image as
// localhost/hello-mpi:test.
func helloMPI(t *testing.T) *project {
	t.Helper()
	p := newProject(t, "version: 1\nname: localhost/hello-mpi\nstages: [{name: s, from: '"+preparedImage(t, "hello-mpi", example())+"'}]\n")
	p.build("--tag", "test").ok()
	return p
}

// The example of the README runs where podman has the same store.
func TestHelloMPI(t *testing.T) {
	t.Parallel()
	preparedImage(t, "hello-mpi", example())
	ownStoreWith(t, "hello-mpi")
	p := newProject(t, "version: 1\n")
	p.dir = example()
	tell(t, "hello-mpi", p.build("--tag", "test").ok().ImageID)
	if kindOfUser() != asRoot {
		return
	}
	needTool(t, "podman")
	archive := filepath.Join(t.TempDir(), "image.tar")
	p.build("--tag", "test", "-o", "type=docker-archive,dest="+archive).ok()
	out := runImage(t, archive, "localhost/hello-mpi:test")
	if strings.Count(out, "Hello from rank") != 2 {
		t.Errorf("podman run prints %s", out)
	}
}

// runImage runs an image's own command with podman, with its defaults or,
// where the host forbids those, with less. podman has a store of its own: it
// judges what left ours.
func runImage(t *testing.T, archive, image string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pdi") // podman takes at most 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(filepath.Join(dir, "r", "overlay"), syscall.MNT_DETACH)
		_ = os.RemoveAll(dir)
	})
	podman := []string{"--root", filepath.Join(dir, "r"), "--runroot", filepath.Join(dir, "x")}
	judge(t, "podman", append(podman, "load", "-i", archive)...)
	run := []string{"run", "--rm", "--network=none"}
	out, err := tryJudge("podman", append(append(podman, run...), image)...)
	if err == nil {
		return out
	}
	less := append([]string{"--runtime", "runc"}, podman...)
	return judge(t, "podman", append(append(less, run...), "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", image)...)
}
