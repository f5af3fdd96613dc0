//go:build integration

package torture

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A killing is a command that is killed again and again, and then left alone.
type killing struct {
	t      *testing.T
	scene  *scene
	name   string
	random *rand.Rand
	// took is how long the command takes; events are the numbers of those
	// that it reports, by phase.
	took   time.Duration
	events map[string][]int
	// want is what there is afterwards when nothing was killed.
	want   inventory
	phases map[string]int
	kills  int
	// extra are kinds of things that stayed.
	extra map[string]int
	// pace is how long it takes on average from an event to the kill.
	pace time.Duration
	// seen are the events of the last run.
	seen []event
	// look is called with the store of each build that has gone on.
	look func(st *store)
}

// moment is any time of the command's, or shortly after an event of any phase.
func (k *killing) moment() moment {
	phases := slices.Sorted(maps.Keys(k.events))
	if k.random.IntN(3) == 0 || len(phases) == 0 {
		return moment{delay: time.Duration(k.random.Float64() * 1.05 * float64(k.took))}
	}
	events := k.events[phases[k.random.IntN(len(phases))]]
	return moment{events: events[k.random.IntN(len(events))], delay: time.Duration(k.random.ExpFloat64() * float64(cmp.Or(k.pace, 20*time.Millisecond)))}
}

// learn takes over how long the command took and what it reported.
func (k *killing) learn(start time.Time, seen []event) {
	k.took, k.events, k.seen = time.Since(start), map[string][]int{}, seen
	for i, e := range seen {
		k.events[e.phase()] = append(k.events[e.phase()], i+1)
	}
}

// kill starts the command and kills it; done are the steps that have ended.
func (k *killing) kill(st *store, args []string, done []string) []string {
	k.t.Helper()
	at := k.moment()
	v := st.start(args...)
	seen, ended := v.wait(at)
	if ended {
		_ = v.cmd.Wait()
	} else {
		k.kills++
		k.phases[append([]event{{}}, seen...)[len(seen)].phase()]++
		seen = append(seen, v.kill(k.t, k.random.IntN(3))...)
	}
	k.seen = seen
	if again := repeated(done, seen); len(again) > 0 {
		k.t.Errorf("seed %d, kill %d: steps are run again: %v", *seed, k.kills, again)
	}
	if left := st.quiet(); len(left) > 0 {
		k.t.Errorf("seed %d, kill %d: still there 30 s after the kill:\n%s", *seed, k.kills, strings.Join(left, "\n"))
	}
	return append(done, finished(seen)...)
}

// left compares what is there with what should be.
func (k *killing) left(st *store) []string {
	k.t.Helper()
	diff := append(st.inventory().beyond(k.want), st.outside()...)
	for _, d := range diff {
		k.extra[d]++
	}
	if len(diff) > 0 {
		k.t.Errorf("seed %d, after kill %d:\n  %s", *seed, k.kills, strings.Join(diff, "\n  "))
	}
	return diff
}

func (k *killing) figures() {
	figure("%s: %d killed, %d kinds of leftovers, in %s", k.name, k.kills, len(k.extra), counts(k.phases))
	for _, e := range slices.Sorted(maps.Keys(k.extra)) {
		figure("    %d times %s", k.extra[e], e)
	}
}

func counts(of map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(parts, ", ")
}

// A build may be killed at any moment: the next one goes on and ends with the
// same image, runs no finished step again, and nothing stays behind.
func TestKilledBuilds(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, scene: s, name: "builds", random: rand.New(rand.NewPCG(*seed, 1)), phases: map[string]int{}, extra: map[string]int{}}
	defer k.figures()
	j := s.job("reference")
	st := s.newStore(t, "reference")
	want := k.measure(st, j)
	for n := 0; k.kills < *kills && n < 3**kills; n++ {
		name := fmt.Sprintf("build%d", n)
		j, st := s.job(name), s.newStore(t, name)
		var done []string
		for range 1 + k.random.IntN(3) {
			done = k.kill(st, j.args(), done)
		}
		k.goesOn(st, j, done, want)
	}
}

// goesOn builds after kills: it runs none of the steps that were done, and ends
// as if nothing had been.
func (k *killing) goesOn(st *store, j job, done []string, want result) {
	k.t.Helper()
	v := st.start(j.args()...)
	seen, _ := v.wait(moment{delay: time.Hour})
	if err := v.cmd.Wait(); err != nil {
		k.t.Fatalf("seed %d: the build after kill %d: %v\n%s", *seed, k.kills, err, v.text.String())
	}
	if again := repeated(done, seen); len(again) > 0 {
		k.t.Errorf("seed %d, after kill %d: steps are run again: %v", *seed, k.kills, again)
	}
	j.right(k.t, want)
	k.left(st)
	if k.seen = seen; k.look != nil {
		k.look(st)
	}
	st.remove()
}

// measure does the command without a kill.
func (k *killing) measure(st *store, j job) result {
	k.t.Helper()
	start := time.Now()
	v := st.start(j.args()...)
	seen, _ := v.wait(moment{delay: time.Hour})
	if err := v.cmd.Wait(); err != nil {
		k.t.Fatalf("the build that is left alone: %v\n%s", err, v.text.String())
	}
	k.learn(start, seen)
	st.must(j.args()...) // as after a kill, there is a second build
	k.want = st.inventory()
	want := j.result(k.t)
	want.Cached, want.Executed = 0, 0
	j.right(k.t, want)
	return want
}

// A push may be killed at any moment, too.
func TestKilledPushes(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, scene: s, name: "pushes", random: rand.New(rand.NewPCG(*seed, 2)), phases: map[string]int{}, extra: map[string]int{}}
	defer k.figures()
	j, st := s.job("reference"), s.newStore(t, "reference")
	want := k.measure(st, j)
	push := func(n int) []string {
		return []string{"push", "--tls-verify=false", j.tag, fmt.Sprintf("%s/torture/push%d:1", s.registry, n)}
	}
	start := time.Now()
	v := st.start(push(0)...)
	seen, _ := v.wait(moment{delay: time.Hour})
	if err := v.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, v.text.String())
	}
	k.learn(start, seen)
	k.want = st.inventory()
	for n := 1; k.kills < *kills && n < 3**kills; n++ {
		args := push(n)
		// What the program knows of the registry would spare it the work.
		_ = os.Remove(st.dir + "/pdibuild/cache/blob-info-cache-v1.sqlite")
		for range 1 + k.random.IntN(2) {
			k.kill(st, args, nil)
		}
		st.must(args...)
		if digest, err := registryImage(args[len(args)-1]); err != nil || digest != want.Digest {
			t.Errorf("seed %d, after kill %d: the registry has %s (%v), not %s", *seed, k.kills, digest, err, want.Digest)
		}
		k.left(st)
	}
}

// Commands that read and write archives and layouts may be killed: nothing that
// they were writing has a name, or the next command removes it.
func TestKilledArchives(t *testing.T) {
	s := newScene(t)
	j, st := s.job("reference"), s.newStore(t, "reference")
	st.must(j.args()...)
	out := func(name string) string { return filepath.Join(s.dir, "reference", name) }
	st.must("export", j.tag, "docker-archive:"+out("in.tar"))
	random := rand.New(rand.NewPCG(*seed, 3))
	for name, command := range map[string][]string{
		"export to an OCI archive":    {"export", j.tag, "oci-archive:" + out("out.tar")},
		"export to a Docker archive":  {"export", j.tag, "docker-archive:" + out("out.tar")},
		"export to a layout":          {"export", j.tag, "oci:" + out("layout")},
		"inspect of an OCI archive":   {"inspect", "oci-archive:" + j.archive},
		"sbom of a Docker archive":    {"sbom", "docker-archive:" + out("in.tar")},
		"steps to a directory":        {"cache", "export", "--to", "type=local,dest=" + out("steps"), j.context},
		"Docker archive to an output": {"export", j.tag, "docker-archive:/dev/null"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &killing{t: t, scene: s, name: name, random: random, phases: map[string]int{}, extra: map[string]int{}}
			defer k.figures()
			after := func() {
				st.must(command...)
				st.must("inspect", "oci-archive:"+j.archive)
			}
			after()
			start := time.Now()
			after()
			k.took, k.want = time.Since(start)/2, st.inventory()
			for range max(*kills/7, min(3, *kills/2)) {
				for range 1 + random.IntN(3) {
					k.kill(st, command, nil)
				}
				after()
				k.left(st)
			}
		})
	}
}
