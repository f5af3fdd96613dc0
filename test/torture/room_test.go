//go:build integration

package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// smallStore is a store on a file system in memory with these limits.
func (s *scene) smallStore(t *testing.T, name, limits string) *store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can mount a small file system")
	}
	st := s.newStore(t, name)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", limits, ownMount, st.dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no small file system can be mounted: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", st.dir).Run() }) // gone already where all went well
	return st
}

// makeRoom changes the limits.
func (st *store) makeRoom(limits string) {
	st.t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+limits, st.dir).CombinedOutput(); err != nil {
		st.t.Fatalf("make room: %v %s", err, out)
	}
}

// used runs a du or df that prints one number.
func used(t *testing.T, name string, args ...string) (n int) {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	fields := strings.Fields(string(out))
	if err == nil {
		_, err = fmt.Sscan(fields[len(fields)-1], &n)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A shortage is something of which there is not enough.
type shortage struct {
	name string
	// limits is the mount option with %d for how much there is.
	limits string
	// much is the least that is enough.
	much int
	// words are in the message.
	words []string
}

// Wherever the disk is full, the error says so and what to do; nothing is
// damaged, and when there is room the next build goes on.
func TestFullDisk(t *testing.T) {
	s := newScene(t)
	st := s.smallStore(t, "reference", "size=500m")
	k := &killing{t: t, name: "reference"}
	j := s.job("reference")
	want := k.measure(st, j)
	bytes := shortage{"disk full", "size=%dk", used(t, "df", "--output=used", "-k", st.dir), []string{"no space left on device", "hint: "}}
	inodes := shortage{"inodes exhausted", "size=500m,nr_inodes=%d", used(t, "df", "--output=iused", st.dir), []string{"no space left on device", "hint: "}}
	for _, kind := range []shortage{bytes, inodes} {
		t.Run(kind.name, func(t *testing.T) { s.fill(t, kind, want, k.want) })
	}
}

func (s *scene) fill(t *testing.T, kind shortage, want result, after inventory) {
	codes, left := map[string]int{}, 0
	for i := range *rooms {
		name := fmt.Sprintf("%c%d", kind.name[0], i)
		// From nearly nothing to nearly enough; a build needs more at times
		// than what is there in the end.
		amount := kind.much * (i + 1) / *rooms
		st, j := s.smallStore(t, name, fmt.Sprintf(kind.limits, amount)), s.job(name)
		args := j.args()
		args[slices.Index(args, "json")] = "plain"
		o := st.run(args...)
		codes[fmt.Sprintf("exit code %d", o.code)]++
		if o.code != 0 {
			if o.code != 5 && o.code != 4 {
				t.Errorf("%s at %d: exit code %d\n%s", kind.name, amount, o.code, o.stderr)
			}
			for _, w := range kind.words {
				if !strings.Contains(strings.ToLower(o.stderr), w) {
					t.Errorf("%s at %d: the message does not say %q:\n%s", kind.name, amount, w, o.stderr)
				}
			}
		}
		st.makeRoom("size=500m,nr_inodes=1000000")
		st.must(j.args()...)
		j.right(t, want)
		if diff := append(st.inventory().beyond(after), st.outside()...); len(diff) > 0 {
			left++
			t.Errorf("%s at %d, after there was room:\n  %s", kind.name, amount, strings.Join(diff, "\n  "))
		}
		_ = exec.Command("umount", "-l", st.dir).Run()
		st.remove()
	}
	figure("%s: %d places, %s, %d times something stayed", kind.name, *rooms, counts(codes), left)
}

// When the disk reports an error the build ends with a message or is right;
// the next one is right in any case.
func TestDiskErrors(t *testing.T) {
	needStrace(t)
	s := newScene(t)
	k := &killing{t: t, name: "reference"}
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	random := rand.New(rand.NewPCG(*seed, 4))
	calls := []string{"write", "pwrite64", "fsync", "fdatasync", "renameat", "linkat", "mkdirat", "ftruncate", "copy_file_range"}
	codes, left := map[string]int{}, 0
	for i := range *rooms * 2 {
		name := fmt.Sprintf("error%d", i)
		st, j := s.newStore(t, name), s.job(name)
		call, n := calls[random.IntN(len(calls))], nth(random)
		what := fmt.Sprintf("EIO at %s %d", call, n)
		st.wrap = injected(call, n, "error=EIO")
		o := st.run(j.args()...)
		st.wrap = nil
		codes[fmt.Sprintf("exit code %d", o.code)]++
		if o.code == 0 {
			j.right(t, want)
		} else if !strings.Contains(o.stderr, `"event":"error"`) && call != "write" {
			t.Errorf("seed %d, %s: exit code %d without a message\n%s", *seed, what, o.code, o.stderr)
		}
		st.must(j.args()...)
		j.right(t, want)
		if diff := append(st.inventory().beyond(k.want), st.outside()...); len(diff) > 0 {
			left++
			t.Errorf("seed %d, %s: after the next build:\n  %s", *seed, what, strings.Join(diff, "\n  "))
		}
		st.remove()
		_ = os.RemoveAll(filepath.Dir(j.archive))
	}
	figure("input/output errors: %d, %s, %d times something stayed", *rooms*2, counts(codes), left)
}
