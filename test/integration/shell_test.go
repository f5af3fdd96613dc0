//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const failingRecipe = `version: 1
name: localhost/failing
secrets: {token: {env: TOKEN, optional: true}}
stages:
  - name: tools
    from: BASE
    steps:
      - run: echo NONCE > /tool
  - name: final
    from: tools
    env: {LEVEL: stage}
    steps:
      - run: echo one > /first
      - run: echo partial > /opt/partial; COMMAND
        workdir: /usr/share
        env: {LEVEL: step}
        mounts: [{type: bind, from: tools, source: /tool, target: /mnt/tool}]
        secrets: [token]
`

// A failed step can be looked into as it was, until the recipe builds.
func TestShellFailed(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\n")
	p.env = []string{"TOKEN=a-secret-value-" + p.nonce, "ftp_proxy=http://user:password@proxy:1"}
	recipe := strings.Replace(failingRecipe, "secrets: [token]", "secrets: [{id: token}]", 1)
	build := func(command string) outcome {
		p.recipe(strings.Replace(recipe, "COMMAND", command, 1))
		return p.build()
	}
	failed := func(args ...string) outcome {
		return p.in("shell", append([]string{"--failed", p.dir, "--"}, args...)...)
	}
	p.recipe("version: 1\nstages:\n  - {name: s, from: BASE, steps: [{run: 'true # NONCE'}]}\n")
	p.build().ok() // removes what other tests have left
	before := len(keptFiles(t, p.store))
	o := build("exit 3").fails(4, "look inside: pdibuild shell --failed --storage-root "+p.store)
	if !strings.Contains(o.stderr, p.dir) {
		t.Errorf("the command does not name the context:\n%s", o.stderr)
	}
	failed("sh", "-c", `pwd; echo $LEVEL; cat /opt/partial /mnt/tool; echo "${ftp_proxy+leaked}"; echo changed > /opt/mine`).
		prints("/usr/share\nstep\npartial\n" + p.nonce + "\nleaked\n") // it is set again, from the environment of the shell
	failed("cat", "/opt/mine").prints("changed\n")
	for _, path := range keptFiles(t, p.store) {
		data, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(data), "user:password@") || strings.Contains(string(data), "a-secret-value") {
			t.Errorf("%s (%v) has a secret: %s", path, err, data)
		}
	}
	if n := len(keptFiles(t, p.store)); n != before+1 {
		t.Errorf("%d containers are kept, want %d", n, before+1)
	}

	build("exit 4").fails(4)
	failed("sh", "-c", "ls /opt").prints("partial\n")
	if n := len(keptFiles(t, p.store)); n != before+1 {
		t.Errorf("after another failure %d containers are kept, want %d", n, before+1)
	}

	build("exit 0").ok()
	failed("true").fails(2, "no step of", "has failed")
	if n := len(keptFiles(t, p.store)); n != before {
		t.Errorf("after success %d containers are kept, want %d", n, before)
	}
	noWorkIsLeft(t, p.store)
}

func keptFiles(t *testing.T, store string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(store, "pdibuild", "failed", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What is kept of a recipe that is gone goes with the next build.
func TestShellFailedRecipeIsGone(t *testing.T) {
	t.Parallel()
	gone := newProject(t, strings.NewReplacer("COMMAND", "exit 1", "secrets: [token]", "").Replace(failingRecipe))
	gone.build().fails(4)
	gone.build().fails(4) // which has removed what other tests have left
	before := len(keptFiles(t, gone.store))
	if err := os.RemoveAll(gone.dir); err != nil {
		t.Fatal(err)
	}
	p := newProject(t, "version: 1\nstages:\n  - {name: s, from: BASE, steps: [{run: 'true # NONCE'}]}\n")
	p.build().ok()
	if n := len(keptFiles(t, p.store)); n != before-1 {
		t.Errorf("%d containers are kept, want %d", n, before-1)
	}
}

// A container in which the step has left a secret is not kept.
func TestShellFailedNotWithSecret(t *testing.T) {
	t.Parallel()
	p := newProject(t, strings.NewReplacer("secrets: [token]", "secrets: [{id: token}]", "COMMAND", "cp /run/secrets/token /opt/t; exit 1").Replace(failingRecipe))
	p.env = []string{"TOKEN=a-secret-value-" + p.nonce}
	o := p.build().fails(4, "look inside: not possible, its container was not kept because it held a secret")
	if strings.Contains(o.stderr, "shell --failed") {
		t.Errorf("the container is offered:\n%s", o.stderr)
	}
	p.in("shell", "--failed", p.dir, "--", "true").fails(2, "step 3", "was not kept because it held a secret")
	if out, err := inNamespace(exec.Command("grep", "-rl", "a-secret-value-"+p.nonce, p.store)).CombinedOutput(); err == nil {
		t.Errorf("the secret is in the store:\n%s", out)
	}
}

// Two shells in one failed container would see each other's half-written files.
func TestShellFailedOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t, strings.NewReplacer("COMMAND", "exit 1", "secrets: [token]", "").Replace(failingRecipe))
	p.build().fails(4)
	s := p.startCommand("shell", "--storage-root", p.store, "--failed", p.dir, "--", "sh", "-c", "echo READY >&2; sleep 2; cat /opt/partial")
	p.in("shell", "--failed", p.dir, "--", "true").fails(2, "somebody else uses it", "end the other shell first")
	p.build().fails(4) // replaces what the shell is in
	if code := s.end(); code != 0 || s.stdout.String() != "partial\n" {
		t.Errorf("exit code %d, output %q\n%s", code, s.stdout.String(), s.stderr.String())
	}
	if o := p.in("rm", "--failed"); o.code != 0 {
		t.Errorf("rm --failed: exit code %d\n%s", o.code, o.stderr)
	}
	p.in("shell", "--failed", p.dir, "--", "true").fails(2, "no step of")
	noWorkIsLeft(t, p.store)
}

func TestShellStage(t *testing.T) {
	t.Parallel()
	p := newProject(t, strings.NewReplacer("COMMAND", "exit 1", "secrets: [token]", "").Replace(failingRecipe))
	p.in("shell", "--stage", "final", p.dir, "--", "true").fails(2, `nothing of stage "final" is built yet`, "pdibuild build --target final")
	p.build().fails(4)
	p.in("shell", "--stage", "tools", p.dir, "--", "cat", "/tool").prints(p.nonce + "\n")
	o := p.in("shell", "--stage", "final", p.dir, "--", "sh", "-c", "cat /first; echo $LEVEL; ls /opt")
	o.prints("one\nstage\n")
	o.says(`stage "final" is built up to step 2 of 3`)
	p.in("shell", "--stage", "fnal", p.dir).fails(2, `no stage "fnal"`)
	p.in("shell").fails(2, "IMAGE, --stage NAME or --failed")
}

// A shell on a terminal has a terminal of its own: of the same size, also
// later, with Ctrl-C and Ctrl-D for what runs inside; the outer one is as
// before in the end.
func TestShellOnTerminal(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	outer, inner := openTerminal(t)
	before, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	resize(t, outer, 30, 101)
	cmd := p.command("shell", "--storage-root", p.store, "hello-mpi:test", "--", "sh", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inner, inner, inner
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var screen text
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen: %q", screen.String())
		}
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := outer.Read(buf)
			_, _ = screen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	say := func(keys, want string) {
		t.Helper()
		if _, err := outer.WriteString(keys); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("after %q the screen shows %q", keys, want),
			func() bool { return strings.Contains(screen.String(), want) })
	}
	say("stty size; tty\n", "30 101\r\n/dev/pts/0")
	resize(t, outer, 44, 88)
	_ = syscall.Kill(cmd.Process.Pid, syscall.SIGWINCH)
	say("sleep 0.5; stty size\n", "44 88")
	say("sleep 600; echo ended $?\n", "sleep 600")
	time.Sleep(500 * time.Millisecond)
	say("\x03", "$ ")
	say("echo status $?\n", "status 130")
	say("cat; echo cat ended\n", "cat; echo")
	time.Sleep(300 * time.Millisecond)
	say("\x04", "cat ended")
	say("exit 9\n", "exit 9")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d, want 9: %q", code, screen.String())
	}
	after, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as before (%v): %+v, was %+v", err, after, before)
	}
	noWorkIsLeft(t, p.store)
}

// openTerminal makes a pair of terminal ends.
func openTerminal(t *testing.T) (outer, inner *os.File) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close() })
	n, err := unix.IoctlGetInt(int(outer.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	return outer, inner
}

func resize(t *testing.T, terminal *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatal(err)
	}
}
