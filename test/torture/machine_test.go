//go:build integration

package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A clock that jumps changes neither what is known nor the image.
func TestClockJumps(t *testing.T) {
	if _, err := exec.LookPath("faketime"); err != nil {
		t.Skip("SKIPPED: faketime is not installed; apt-get install faketime")
	}
	s := newScene(t)
	k := &killing{t: t, name: "reference"}
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	for name, jump := range map[string]string{"back": "-400d", "ahead": "+400d"} {
		j, st := s.job(name), s.newStore(t, name)
		st.must(j.args()...)
		st.wrap = []string{"faketime", "-f", jump}
		o := st.must(j.args()...)
		if r := j.result(t); r.Executed != 0 {
			t.Errorf("with a clock at %s %d steps are run again\n%s", jump, r.Executed, o.stderr)
		}
		j.right(t, want)
		// And a store that was made at that time, used now.
		st = s.newStore(t, name+"b")
		st.wrap = []string{"faketime", "-f", jump}
		st.must(j.args()...)
		st.wrap = nil
		st.must(j.args()...)
		if r := j.result(t); r.Executed != 0 {
			t.Errorf("after a clock at %s %d steps are run again", jump, r.Executed)
		}
		j.right(t, want)
	}
	figure("clock 400 days back and ahead, and back again: the same image, no step run again")
}

// A machine with one processor and 512 MB is enough for the recipe.
func TestSmallMachine(t *testing.T) {
	group := memoryGroup(t, 512<<20)
	s := newScene(t)
	j, st := s.job("small"), s.newStore(t, "small")
	st.wrap = []string{"sh", "-c", `echo $$ > "$0/cgroup.procs"; exec taskset -c 0 "$@"`, group}
	st.must(j.args()...)
	want := j.result(t)
	j.right(t, want)
	peak, err := os.ReadFile(filepath.Join(group, "memory.max_usage_in_bytes"))
	if err != nil {
		peak, _ = os.ReadFile(filepath.Join(group, "memory.peak"))
	}
	var bytes int64
	_, _ = fmt.Sscan(string(peak), &bytes)
	figure("one processor and 512 MB: done, %d MB at most with the page cache", bytes>>20)
}

// memoryGroup makes a control group, of either version.
func memoryGroup(t *testing.T, limit int64) string {
	t.Helper()
	for _, version := range []struct{ root, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		if _, err := os.Stat(filepath.Join(version.root, "cgroup.procs")); err != nil {
			continue
		}
		dir, err := os.MkdirTemp(version.root, "pdibuild-torture-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if os.WriteFile(filepath.Join(dir, version.file), []byte(fmt.Sprint(limit)), 0o644) == nil {
			return dir
		}
	}
	t.Skip("SKIPPED: no control group can be made here to limit the memory")
	return ""
}
