//go:build integration

package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// atOnce is how many builds share a store.
const atOnce = 8

// Builds of the same recipe and of different ones share a store at the same
// time: all are right, and what the same ones have in common is done once.
func TestEightBuildsAtOnce(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, name: "reference"}
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	st := s.newStore(t, "together")
	var jobs [atOnce]job
	var outcomes [atOnce]outcome
	var all sync.WaitGroup
	for i := range jobs {
		jobs[i] = s.job(fmt.Sprintf("together%d", i))
		if i%2 == 1 {
			jobs[i].scene = s.variant(t, i)
		}
		if err := os.MkdirAll(filepath.Dir(jobs[i].archive), 0o755); err != nil {
			t.Fatal(err)
		}
		all.Go(func() { outcomes[i] = st.run(jobs[i].args()...) })
	}
	start := time.Now()
	all.Wait()
	took := time.Since(start)
	executed := 0
	for i, o := range outcomes {
		if o.code != 0 {
			t.Errorf("build %d: exit code %d\n%s", i, o.code, o.stderr)
			continue
		}
		r := jobs[i].result(t)
		executed += r.Executed
		if i%2 == 0 {
			jobs[i].right(t, want)
		} else if r.ImageID == want.ImageID {
			t.Errorf("build %d is of another recipe and has the same image", i)
		}
	}
	left := st.quiet()
	if works, _ := filepath.Glob(filepath.Join(st.dir, "pdibuild/work/*")); len(works) > 0 {
		left = append(left, works...)
	}
	if len(left) > 0 {
		t.Errorf("afterwards there is still:\n%s", strings.Join(left, "\n"))
	}
	figure("%d builds at once, half of them of the same recipe: %d steps executed, %.1f s, %d things left", atOnce, executed, took.Seconds(), len(left))
}

// variant is the scene with another recipe: its last stage differs.
func (s *scene) variant(t *testing.T, i int) *scene {
	t.Helper()
	other := *s
	other.context = filepath.Join(s.dir, fmt.Sprintf("context%d", i))
	if err := os.CopyFS(other.context, os.DirFS(s.context)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.context, "pdibuild.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	other.write(t, "pdibuild.yaml", []byte(strings.Replace(string(text), "hello\\n", fmt.Sprintf("hello %d\\n", i), 1)))
	return &other
}

// SIGINT, SIGTERM and SIGHUP end a build with 130 at any moment, and the next
// one goes on; Ctrl-Z and fg change nothing.
func TestSignals(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, name: "reference"}
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	codes := map[string]int{}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	signals = signals[:max(3, min(*kills, len(signals)))]
	for i, signal := range signals {
		name := fmt.Sprintf("signal%d", i)
		j, st := s.job(name), s.newStore(t, name)
		v := st.start(j.args()...)
		seen, _ := v.wait(moment{delay: k.took * time.Duration(i+1) / time.Duration(len(signals)+2)})
		_ = syscall.Kill(-v.cmd.Process.Pid, signal)
		for e := range v.events {
			seen = append(seen, e)
		}
		err := v.cmd.Wait()
		code := v.cmd.ProcessState.ExitCode()
		codes[fmt.Sprintf("exit code %d", code)]++
		if code != 130 && code != 0 { // 0: it was faster than the signal
			t.Errorf("%v: %v, want exit code 130\n%s", signal, err, v.text.String())
		}
		if left := append(st.quiet(), works(st)...); len(left) > 0 {
			t.Errorf("%v: still there:\n%s", signal, strings.Join(left, "\n"))
		}
		done := finished(seen)
		v = st.start(j.args()...)
		seen, _ = v.wait(moment{delay: time.Hour})
		if err := v.cmd.Wait(); err != nil {
			t.Fatalf("the build after %v: %v\n%s", signal, err, v.text.String())
		}
		if again := repeated(done, seen); len(again) > 0 {
			t.Errorf("after %v steps are run again: %v", signal, again)
		}
		j.right(t, want)
	}
	figure("signals: %s, nothing left, finished steps kept", counts(codes))
}

func works(st *store) []string {
	left, _ := filepath.Glob(filepath.Join(st.dir, "pdibuild/work/*"))
	return left
}

// A build that is stopped, as with Ctrl-Z, and continued goes on as if nothing
// had been.
func TestStoppedAndContinued(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, name: "reference"}
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	j, st := s.job("stopped"), s.newStore(t, "stopped")
	v := st.start(j.args()...)
	for range 5 {
		v.wait(moment{delay: k.took / 8})
		_ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGSTOP)
		time.Sleep(200 * time.Millisecond)
		_ = syscall.Kill(-v.cmd.Process.Pid, syscall.SIGCONT)
	}
	v.wait(moment{delay: time.Hour})
	if err := v.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, v.text.String())
	}
	j.right(t, want)
	figure("stopped and continued 5 times: the same image")
}
