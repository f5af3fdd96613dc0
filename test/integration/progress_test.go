//go:build integration

package integration

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// A screen is a real terminal, tmux's, with a shell in it.
type screen struct {
	t      *testing.T
	socket string
	cols   int
}

func newScreen(t *testing.T, cols, rows int) *screen {
	t.Helper()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: the same for every user")
	}
	needTool(t, "tmux")
	needTool(t, "bash")
	dir, err := os.MkdirTemp("", "tmux-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, socket: filepath.Join(dir, "s"), cols: cols}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", s.show())
		}
		_, _ = s.try("kill-server")
		os.RemoveAll(dir)
	})
	s.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows),
		"env", "-u", "CI", "-u", "NO_COLOR", "PS1=prompt> ", "HISTFILE=", "bash", "--norc", "--noprofile", "-i")
	s.waitFor("prompt>")
	return s
}

func (s *screen) try(args ...string) (string, error) {
	cmd := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// show is what the screen shows and what has scrolled away above it.
func (s *screen) show() string {
	out, _ := s.try("capture-pane", "-p", "-S", "-")
	return strings.TrimRight(out, "\n")
}

func (s *screen) waitFor(want string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the screen shows %q", want), func() bool { return strings.Contains(s.show(), want) })
}

// keys types; names such as C-z and Enter are tmux's.
func (s *screen) keys(keys ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

func (s *screen) resize(cols int) {
	s.t.Helper()
	s.cols = cols
	s.tmux("resize-window", "-x", fmt.Sprint(cols))
	time.Sleep(500 * time.Millisecond) // the next lines are drawn
}

var liveLine = regexp.MustCompile(`(?m)^[|/\\-] \[(one|two) `)

// wantLive fails the test unless each stage has one line at the bottom, and no
// more of them come. A terminal that has become narrower but has not said so yet
// may keep what was drawn in between.
func (s *screen) wantLive(what string) {
	s.t.Helper()
	old := -1
	eventually(s.t, what+": each stage has one line", func() bool {
		shown := s.show() // perhaps while a line is being drawn
		lines := strings.Split(shown, "\n")
		found := liveLine.FindAllStringSubmatch(strings.Join(lines[max(0, len(lines)-3):], "\n"), -1)
		if len(found) != 2 || found[0][1] == found[1][1] {
			return false
		}
		time.Sleep(500 * time.Millisecond)
		before := old
		old = len(liveLine.FindAllString(s.show(), -1))
		return old == before
	})
}

// sideBySide has two stages that go on as long as somebody answers at PORT.
const sideBySide = `version: 1
name: localhost/progress
stages:
  - name: one
    from: BASE
    steps: [{run: [bash, -c, 'while (exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null; do echo "a line of a step with much to say about itself, and it says it"; sleep 0.1; done; sleep 1.1']}]
  - name: two
    from: BASE
    steps: [{run: [bash, -c, 'while (exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null; do echo "another line of such a step"; sleep 0.1; done']}]
  - name: final
    from: one
    steps: [{copy: /etc/debian_version, from: two, to: /two}]
`

// begin starts the build in the terminal.
func (s *screen) begin(p *project) {
	s.t.Helper()
	s.keys(fmt.Sprintf("'%s' build --storage-root '%s' '%s'", program, p.store, p.dir), "Enter")
}

// newSideBySide returns the project, and what ends its steps. The base is there
// already, so that both stages begin at once.
func newSideBySide(t *testing.T) (p *project, end func()) {
	t.Helper()
	newProject(t, "version: 1\nstages: [{name: s, from: BASE, steps: [{file: /base, content: x}]}]\n").build().ok()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end = func() { _ = listener.Close() } // a second time it is closed already
	t.Cleanup(end)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return newProject(t, strings.ReplaceAll(sideBySide, "PORT", port)), end
}

// A terminal may become narrower and wider under a build: each running stage
// has one line, which is never wrapped, and nothing of older ones stays. In the
// end there is a summary.
func TestProgressIsResized(t *testing.T) {
	t.Parallel()
	p, end := newSideBySide(t)
	s := newScreen(t, 100, 30)
	s.begin(p)
	s.wantLive("at first")
	for _, cols := range []int{40, 132, 55, 80} {
		s.resize(cols)
		s.wantLive(fmt.Sprintf("with %d columns", cols))
	}
	end()
	s.waitFor("built sha256:")
	eventually(t, "the prompt is back", func() bool { return strings.HasSuffix(s.show(), "\nprompt>") })
	shown := s.show()
	if _, end, _ := strings.Cut(shown, "built sha256:"); liveLine.MatchString(end) {
		t.Error("a live line is left after the end")
	}
	for _, want := range []string{"[one 2/2] run", "[two 2/2] run", "steps ", "cached", "longest", "size ", "logs "} {
		if strings.Count(shown, want) < 1 {
			t.Errorf("the screen lacks %q", want)
		}
	}
	if n := strings.Count(shown, "built sha256:"); n != 1 {
		t.Errorf("the summary is there %d times", n)
	}
}

// Ctrl-Z stops the program and leaves the terminal to the shell; fg goes on
// where it was, bg leaves the terminal alone.
func TestProgressIsStopped(t *testing.T) {
	t.Parallel()
	p, end := newSideBySide(t)
	s := newScreen(t, 80, 30)
	s.begin(p)
	s.wantLive("at first")
	s.keys("C-z")
	s.waitFor("Stopped")
	time.Sleep(500 * time.Millisecond)
	if shown := s.show(); liveLine.MatchString(shown) {
		t.Error("there are live lines while the program is stopped")
	}
	s.keys("echo the shell answers", "Enter")
	s.waitFor("\nthe shell answers")
	s.keys("fg", "Enter")
	s.wantLive("after fg")
	for _, want := range []string{"Stopped", "\nthe shell answers", "prompt> fg"} {
		if !strings.Contains(s.show(), want) {
			t.Errorf("what the shell has shown was overwritten: %q", want)
		}
	}
	s.keys("C-z")
	s.waitFor("[1]+  Stopped")
	s.keys("bg", "Enter")
	time.Sleep(time.Second)
	s.keys("echo $((6 * 7)) in peace", "Enter")
	s.waitFor("\n42 in peace")
	if liveLine.MatchString(s.show()) {
		t.Error("a program in the background draws live lines")
	}
	end()
	s.waitFor("built sha256:")
}

// onTerminal runs the program on a terminal and returns all that it has
// written there.
func (p *project) onTerminal(env []string, args ...string) string {
	p.t.Helper()
	outer, inner := openTerminal(p.t)
	resize(p.t, outer, 24, 100)
	cmd := p.command(args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = inner
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	inner.Close()
	written, err := io.ReadAll(outer)
	if err != nil && !errors.Is(err, syscall.EIO) { // nobody has the other end any more
		p.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		p.t.Fatalf("%v\n%s", err, written)
	}
	return string(written)
}

// What the environment says of colours and terminals is respected.
func TestProgressOfEnvironment(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\nstages: [{name: s, from: scratch, steps: [{file: /NONCE, content: x}]}]\n")
	p.build().ok()
	build := []string{"build", "--storage-root", p.store, p.dir}
	const colour, escape = "\x1b[2m", "\x1b"
	for _, c := range []struct {
		name           string
		env            []string
		colours, moves bool
	}{
		{"a terminal", []string{"TERM=xterm", "CI=", "NO_COLOR="}, true, true},
		{"NO_COLOR", []string{"TERM=xterm", "CI=", "NO_COLOR=1"}, false, true},
		{"TERM=dumb", []string{"TERM=dumb", "CI=", "NO_COLOR="}, false, false},
		{"without TERM", []string{"TERM=", "CI=", "NO_COLOR="}, false, false},
		{"CI", []string{"TERM=xterm", "CI=true", "NO_COLOR="}, false, false},
	} {
		p.recipe("version: 1\nstages: [{name: s, from: scratch, steps: [{file: /NONCE, content: x}, {file: /y, content: " + nonce() + "}]}]\n")
		shown := p.onTerminal(c.env, build...)
		if !strings.Contains(shown, "cached: file /"+p.nonce) || !strings.Contains(shown, "built sha256:") {
			t.Errorf("%s: %q", c.name, shown)
		}
		if got := strings.Contains(shown, colour); got != c.colours {
			t.Errorf("%s: colours are %v: %q", c.name, got, shown)
		}
		if !c.moves && strings.Contains(shown, escape) {
			t.Errorf("%s: there are escape sequences: %q", c.name, shown)
		}
	}
}

// Pushes and pulls show how many bytes they have moved.
func TestProgressOfTransfers(t *testing.T) {
	t.Parallel()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: the same for every user")
	}
	address := registry.StartFront(t, registry.FrontOptions{Rate: 16 << 20}).Address // so that there is time to see them
	p := newProject(t, "version: 1\nname: "+address+"/transfer\nstages: [{name: s, from: scratch, steps: [{copy: data, to: /data}]}]\n")
	data := make([]byte, 40<<20)
	_, _ = rand.Read(data) // never fails
	p.write("data", string(data))
	p.freshStore()
	p.build().ok()
	env := []string{"TERM=xterm", "CI=", "NO_COLOR=1"}
	bytes := regexp.MustCompile(`\d+(\.\d+)? MB of 4[12](\.\d+)? MB`)
	if shown := p.onTerminal(env, "push", "--storage-root", p.store, "--tls-verify=false", address+"/transfer:latest"); !bytes.MatchString(shown) {
		t.Errorf("the push does not show its bytes: %q", shown)
	}
	p.recipe("version: 1\nstages: [{name: s, from: '" + address + "/transfer:latest', steps: [{file: /x, content: x}]}]\n")
	p.freshStore()
	if shown := p.onTerminal(env, "build", "--storage-root", p.store, "--tls-verify=false", p.dir); !bytes.MatchString(shown) {
		t.Errorf("the pull does not show its bytes: %q", shown)
	}
}
