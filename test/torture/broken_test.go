//go:build integration

package torture

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenLimit is how long a build may take on a disk that fails. It takes some
// seconds.
const brokenLimit = 2 * time.Minute

// learned is what the storage library has found out about the file system, and
// remembers, also when a failing disk has answered: it may compare layers in a
// slower way then.
var learned = regexp.MustCompile(`/run/overlay/[^/]*-(true|false): `)

// A disk that fails once, or for good, ends a build with one message that says
// so, or does not matter to it. Once it works, the next build goes on.
func TestBrokenDisks(t *testing.T) {
	s := newScene(t)
	st, d := s.diskStore(t, "reference")
	k := &killing{t: t, scene: s, name: "reference"}
	st.must(s.job("reference").args()...)
	operations := d.counts()
	want := k.measure(st, s.job("reference"))
	st.unmount()
	random := rand.New(rand.NewPCG(*seed, 5))
	codes, left, happened := map[string]int{}, 0, 0
	for i := range *disks {
		f := randomFault(random, operations, i%2 == 1)
		b := &breaking{killing: k, fault: f, what: fmt.Sprintf("seed %d, broken disk %d (%v)", *seed, i, f)}
		code, failed := b.run(s, fmt.Sprintf("broken%d", i), want)
		codes[fmt.Sprintf("exit code %d", code)]++
		if failed {
			happened++
		}
		left += b.left
	}
	figure("broken disks: %d faults among %d operations, every other one for good: %d happened, %s, %d times something stayed", *disks, operations[every], happened, counts(codes), left)
}

// randomFault takes any of the operations that a build does.
func randomFault(random *rand.Rand, operations map[string]int, gone bool) fault {
	kind := every
	if !gone {
		kinds := slices.Sorted(maps.Keys(operations))
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == every })
		kind = kinds[random.IntN(len(kinds))]
	}
	return fault{kind: kind, nth: 1 + random.IntN(operations[kind]), gone: gone}
}

func (f fault) String() string {
	text := fmt.Sprintf("%s %d", f.kind, f.nth)
	if f.gone {
		text += " and all that follow"
	}
	return text
}

// A breaking is one build on a disk that fails, and the next one.
type breaking struct {
	*killing
	fault fault
	what  string
	left  int
}

func (b *breaking) run(s *scene, name string, want result) (code int, failed bool) {
	t := b.t
	st, d := s.diskStore(t, name)
	j := s.job(name)
	d.breakAt(b.fault)
	v := st.start(j.args()...)
	seen, ended := v.wait(moment{delay: brokenLimit})
	if !ended {
		_ = syscall.Kill(v.cmd.Process.Pid, syscall.SIGQUIT) // it shows where it is
		time.Sleep(5 * time.Second)
		v.kill(t, 2)
		t.Fatalf("%s: the build has not ended in %v\n%s", b.what, brokenLimit, v.text.String())
	}
	_ = v.cmd.Wait() // the code says it
	code = v.cmd.ProcessState.ExitCode()
	b.judge(code, v.text.String())
	if b.fault.gone && code != 0 {
		o := st.run("images", "--format", "json")
		if o.code != 5 || strings.Count(o.stderr, "error: ") != 1 || !strings.Contains(o.stderr, "input/output error") {
			t.Errorf("%s: pdibuild images: exit code %d\n%s", b.what, o.code, o.stderr)
		}
	}
	failed = d.heal()
	if code == 0 {
		j.right(t, want)
	}
	b.goOn(st, j, finished(seen), want)
	st.unmount()
	st.remove()
	_ = os.RemoveAll(filepath.Dir(j.archive))
	return code, failed
}

// judge looks at what the build has said.
func (b *breaking) judge(code int, text string) {
	var messages []string
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		var e struct {
			Event, Error, Hint string
			Tail               []string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "error" {
			messages = append(messages, e.Error)
			// A step's own command has said it, and is quoted.
			said := strings.ToLower(e.Error + strings.Join(e.Tail, "\n"))
			// The kernel has another word when it can't mount an overlay.
			if e.Hint == "" || !strings.Contains(said, "input/output error") && !strings.Contains(said, "i/o error") && !strings.Contains(said, "mount the working layer") {
				b.t.Errorf("%s: the message does not say what is wrong, or what to do", b.what)
			}
		} else if line != "" {
			b.t.Errorf("%s: it says: %s", b.what, line)
		}
	}
	if code == 0 && len(messages) == 0 || (code == 5 || code == 4) && len(messages) == 1 {
		b.t.Logf("%s: exit code %d\n%s", b.what, code, text)
		return
	}
	b.t.Errorf("%s: exit code %d\n%s", b.what, code, text)
}

// goOn builds on the disk that works again.
func (b *breaking) goOn(st *store, j job, done []string, want result) {
	b.t.Helper()
	v := st.start(j.args()...)
	seen, _ := v.wait(moment{delay: brokenLimit})
	if err := v.cmd.Wait(); err != nil {
		b.t.Errorf("%s: the next build: %v\n%s", b.what, err, v.text.String())
		return
	}
	if again := repeated(done, seen); len(again) > 0 {
		b.t.Errorf("%s: steps are run again: %v", b.what, again)
	}
	j.right(b.t, want)
	if o := st.run("cache", "verify"); o.code != 0 {
		b.t.Errorf("%s: pdibuild cache verify: exit code %d\n%s%s", b.what, o.code, o.stdout, o.stderr)
	}
	diff := append(st.inventory().beyond(b.want), st.outside()...)
	diff = slices.DeleteFunc(diff, learned.MatchString)
	if len(diff) > 0 {
		b.left++
		b.t.Errorf("%s: after the next build:\n  %s", b.what, strings.Join(diff, "\n  "))
	}
}

func (st *store) unmount() {
	st.t.Helper()
	if out, err := exec.Command("umount", st.dir).CombinedOutput(); err != nil {
		st.t.Errorf("unmount: %v %s", err, out)
	}
}
