//go:build integration

package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

func blobs(r *http.Request) bool     { return strings.Contains(r.URL.Path, "/blobs/") }
func manifests(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
func uploads(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/uploads/") && r.Method != http.MethodPost
}

// A trouble is a fault and how a pull or push may end with it.
type trouble struct {
	name  string
	fault registry.Fault
	// lasting says that no number of tries helps.
	lasting bool
}

// troubles are those of pulls, or of pushes.
func troubles(random *rand.Rand, size int64, data func(*http.Request) bool) []trouble {
	all := []trouble{
		{"500 once", registry.Fault{Status: 500, Match: data, Times: 1}, false},
		{"500 for ever", registry.Fault{Status: 500, Match: data}, true},
		{"429 twice", registry.Fault{Status: 429, Match: data, Times: 2}, false},
		{"401 after the first answers", registry.Fault{Status: 401, Match: data}, true},
		{"403 for manifests", registry.Fault{Status: 403, Match: manifests}, true},
		{"503 for manifests once", registry.Fault{Status: 503, Match: manifests, Times: 1}, false},
		{"stalls", registry.Fault{Stall: 300 * time.Millisecond, Match: data, Times: 2}, false},
		{"wrong bytes of blobs", registry.Fault{Change: true, Match: blobs}, true},
		{"wrong bytes of manifests", registry.Fault{Change: true, Match: manifests}, true},
	}
	for range *cuts {
		at := 1 + random.Int64N(size)
		all = append(all,
			trouble{fmt.Sprintf("cut once at byte %d", at), registry.Fault{Cut: at, Match: data, Times: 1}, false},
			trouble{fmt.Sprintf("cut for ever at byte %d", at), registry.Fault{Cut: at, Match: data}, true})
	}
	return all
}

// each meets the troubles, some at once and each with a registry of its own,
// and counts how they end. Do has to end without the fault.
func (s *scene) each(t *testing.T, all []trouble, do func(int, trouble, *registry.Faulty) outcome) map[string]int {
	t.Helper()
	ends := map[string]int{}
	var mu sync.Mutex
	var met sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, tr := range all {
		faulty := registry.StartFaulty(t, s.registry)
		faulty.Set(&tr.fault)
		met.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			o := do(i, tr, faulty)
			mu.Lock()
			defer mu.Unlock()
			tr.tally(t, o, faulty.Made.Load(), ends)
		})
	}
	met.Wait()
	return ends
}

// tally counts how troubles have ended.
func (tr trouble) tally(t *testing.T, o outcome, made int64, ends map[string]int) {
	t.Helper()
	switch {
	case o.code == 0 && made == 0:
		ends["not met"]++
	case o.code == 0:
		ends["overcome"]++
	case o.code == 7:
		ends["refused with exit code 7"]++
		if !strings.Contains(o.stderr, "hint: ") {
			t.Errorf("%s: no hint:\n%s", tr.name, o.stderr)
		}
		if !tr.lasting {
			ends["of these, passing faults"]++
		}
	default:
		ends[fmt.Sprintf("exit code %d", o.code)]++
		t.Errorf("%s: exit code %d, want 0 or 7\n%s", tr.name, o.code, o.stderr)
	}
}

// A registry that fails is asked again, or is refused: whatever it does, a
// pull never leaves a wrong image, and the next one succeeds.
func TestFaultyPulls(t *testing.T) {
	s := newScene(t)
	direct := s.newStore(t, "reference")
	want := s.pullBase(t, direct, s.registry, "reference").must(t)
	all := troubles(rand.New(rand.NewPCG(*seed, 5)), 1<<20, blobs)
	ends := s.each(t, all, func(i int, tr trouble, faulty *registry.Faulty) outcome {
		name := fmt.Sprintf("pull%d", i)
		st := s.newStore(t, name)
		o := s.pullBase(t, st, faulty.Addr, name)
		if o.code == 0 && o.stdout != want {
			t.Errorf("%s: the image is %s, not %s", tr.name, o.stdout, want)
		}
		faulty.Set(nil)
		if again := s.pullBase(t, st, faulty.Addr, name); again.code != 0 || again.stdout != want {
			t.Errorf("%s, and then no fault: %d, %q, not %q\n%s", tr.name, again.code, again.stdout, want, again.stderr)
		}
		st.remove()
		return o
	})
	figure("pulls from a faulty registry: %d, %s, none wrong", len(all), counts(ends))
}

// must returns the id that a build has printed.
func (o outcome) must(t *testing.T) string {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	return o.stdout
}

// pullBase builds an image on the scene's base from the registry.
func (s *scene) pullBase(t *testing.T, st *store, addr, name string) outcome {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	recipe := "version: 1\nstages: [{name: final, from: " + addr + "/torture/base:1, steps: [{file: /x, content: x}]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "pdibuild.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return st.run("build", "--progress", "plain", "--tls-verify=false", dir)
}

// A push to a registry that fails is repeated or fails: what the registry has
// then under the name is the image or nothing.
func TestFaultyPushes(t *testing.T) {
	s := newScene(t)
	j, st := s.job("reference"), s.newStore(t, "reference")
	st.must(j.args()...)
	want := j.result(t)
	all := slices.DeleteFunc(troubles(rand.New(rand.NewPCG(*seed, 6)), 8<<20, uploads), func(tr trouble) bool { return tr.fault.Change })
	ends := s.each(t, all, func(i int, tr trouble, faulty *registry.Faulty) outcome {
		name := fmt.Sprintf("/torture/faulty%d:1", i)
		o := st.run("push", "--tls-verify=false", j.tag, faulty.Addr+name)
		digest, err := registryImage(s.registry + name)
		if (o.code == 0 || err == nil) && digest != want.Digest {
			t.Errorf("%s: the registry has %s (%v), not %s", tr.name, digest, err, want.Digest)
		}
		faulty.Set(nil)
		st.must("push", "--tls-verify=false", j.tag, faulty.Addr+name)
		if digest, err := registryImage(s.registry + name); err != nil || digest != want.Digest {
			t.Errorf("%s, and then no fault: the registry has %s (%v), not %s", tr.name, digest, err, want.Digest)
		}
		return o
	})
	figure("pushes to a faulty registry: %d, %s, none wrong", len(all), counts(ends))
}
