//go:build integration

package torture

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// changing are the system calls by which a build changes what is on the disk,
// what is mounted and what is held. Between any two of them it may be killed.
var changing = []string{
	"renameat", "renameat2", "unlinkat", "mkdirat", "linkat", "symlinkat", "fchmodat", "fchownat", "utimensat", "fsync", "fdatasync",
	"ftruncate", "pwrite64", "mount", "umount2", "flock", "fcntl", "openat",
}

// needStrace skips where a program cannot be stopped at its system calls.
func needStrace(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: strace is not installed or may not trace here: %v %s", err, out)
	}
}

// injected makes strace do something to a program when one of its threads
// makes a system call for the nth time.
func injected(call string, n int, what string) []string {
	return []string{"strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, what, n)}
}

// nth is mostly small: a program has many threads, and each counts by itself.
func nth(random *rand.Rand) int { return 1 + int(random.ExpFloat64()*6) }

// The moments that matter last microseconds: a build is killed as it makes one
// of the system calls that change something.
func TestKilledAtSystemCalls(t *testing.T) {
	needStrace(t)
	s := newScene(t)
	k := &killing{t: t, scene: s, name: "builds at system calls", random: rand.New(rand.NewPCG(*seed, 3)), phases: map[string]int{}, extra: map[string]int{}}
	defer k.figures()
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	for n := 0; k.kills < (*kills+1)/2 && n < 2**kills; n++ {
		name := fmt.Sprintf("call%d", n)
		j, st := s.job(name), s.newStore(t, name)
		var done []string
		var at []string
		for range 1 + k.random.IntN(2) {
			call, count := changing[k.random.IntN(len(changing))], nth(k.random)
			at = append(at, fmt.Sprintf("%s %d", call, count))
			done = k.killAt(st, j, done, injected(call, count, "signal=SIGKILL"))
		}
		o := st.run(j.args()...)
		if o.code != 0 {
			t.Fatalf("seed %d: the build after a kill at %s: exit code %d\n%s", *seed, strings.Join(at, ", "), o.code, o.stderr)
		}
		j.right(t, want)
		if len(k.left(st)) > 0 {
			t.Logf("it was killed at %s", strings.Join(at, ", "))
		}
		st.remove()
	}
}

// killAt lets strace kill the build; some builds do not come that far.
func (k *killing) killAt(st *store, j job, done, wrap []string) []string {
	k.t.Helper()
	st.wrap = wrap
	v := st.start(j.args()...)
	st.wrap = nil
	seen, _ := v.wait(moment{delay: time.Hour})
	if v.cmd.Wait() != nil {
		k.kills++
		k.phases[append([]event{{}}, seen...)[len(seen)].phase()]++
	}
	if again := repeated(done, seen); len(again) > 0 {
		k.t.Errorf("seed %d, kill %d: steps are run again: %v", *seed, k.kills, again)
	}
	if left := st.quiet(); len(left) > 0 {
		k.t.Errorf("seed %d, kill %d: still there 30 s after the kill:\n%s", *seed, k.kills, strings.Join(left, "\n"))
	}
	return append(done, finished(seen)...)
}
