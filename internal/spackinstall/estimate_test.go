package spackinstall

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// specsOf makes specs of texts such as "app base tool": app needs the others.
func specsOf(texts ...string) []*spack.Spec {
	var specs []*spack.Spec
	for _, text := range texts {
		words := strings.Fields(text)
		s := &spack.Spec{Name: words[0], Version: "1.0", Hash: words[0]}
		for _, dep := range words[1:] {
			s.Dependencies = append(s.Dependencies, spack.Dependency{Name: dep, Hash: dep, Types: spack.Build | spack.Link})
		}
		specs = append(specs, s)
	}
	return specs
}

func timesOf(t *testing.T, seconds map[string]int) packageTimes {
	t.Helper()
	times := packageTimes{t.TempDir()}
	for name, s := range seconds {
		times.add(name, time.Duration(s)*time.Second, false)
	}
	return times
}

func TestEstimate(t *testing.T) {
	times := timesOf(t, map[string]int{"base": 10, "tool": 20, "lib": 30, "app": 40})
	diamond := specsOf("base", "tool", "lib base", "app lib tool")
	for name, c := range map[string]struct {
		specs   []*spack.Spec
		cached  string
		slots   int
		seconds int // -1: not known
	}{
		"nothing":                         {nil, "", 2, 0},
		"one after the other":             {diamond, "", 1, 100},
		"the longest chain":               {diamond, "", 8, 80},
		"two at once, the long way first": {specsOf("base", "tool", "lib"), "", 2, 30},
		"from the cache":                  {diamond, "base lib tool", 1, 43},
		"new ones are as the others":      {specsOf("lib", "new", "app"), "", 1, 110},
		"too many new ones":               {specsOf("lib", "new", "newer"), "", 1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			have := map[string]bool{}
			for _, hash := range strings.Fields(c.cached) {
				have[hash] = true
			}
			f := newEstimate(c.specs, have, times)
			f.slots = c.slots
			left, ok := f.left(time.Now())
			if !ok {
				left = -time.Second
			}
			if left != time.Duration(c.seconds)*time.Second {
				t.Errorf("the rest takes %s, want %d s", left, c.seconds)
			}
		})
	}
}

func TestEstimateGoesOn(t *testing.T) {
	f := newEstimate(specsOf("base", "lib base", "tool", "app lib tool"), nil, timesOf(t, map[string]int{"base": 10, "tool": 20, "lib": 30, "app": 40}))
	start := time.Now()
	left := func(after, want int) {
		t.Helper()
		if got, _ := f.left(start.Add(time.Duration(after) * time.Second)); got != time.Duration(want)*time.Second {
			t.Errorf("after %d s, %s are left, want %d s", after, got, want)
		}
	}
	left(0, 100)
	f.start("base", start)
	left(4, 96)
	left(20, 92) // it takes longer than it did
	f.finish("base")
	left(20, 90)
	f.giveUp("lib") // and app with it
	left(20, 20)
	f.restart()
	left(20, 90)
}

// Many packages are no reason to be slow: this happens at each event.
func TestEstimateOfManyPackages(t *testing.T) {
	var texts []string
	seconds := map[string]int{}
	for i := range 500 {
		text := fmt.Sprintf("p%d", i)
		seconds[text] = i%7 + 1
		for j := max(0, i-5); j < i; j++ {
			text += fmt.Sprintf(" p%d", j)
		}
		texts = append(texts, text)
	}
	f := newEstimate(specsOf(texts...), nil, timesOf(t, seconds))
	f.slots = 4
	if left, ok := f.left(time.Now()); !ok || left != 1994*time.Second {
		t.Errorf("a chain of 500 takes %s, %v", left, ok)
	}
}

func TestPackageTimes(t *testing.T) {
	times := packageTimes{t.TempDir()}
	if _, ok := times.expect("hdf5", false); ok {
		t.Error("there is a time of a package that was never built")
	}
	for _, s := range []int{1000, 10, 12, 300, 11, 13} { // the first is forgotten
		times.add("hdf5", time.Duration(s)*time.Second, false)
	}
	times.add("hdf5", time.Second, true)
	if got, _ := times.expect("hdf5", false); got != 12*time.Second {
		t.Errorf("hdf5 is expected to take %s, want the median, 12s", got)
	}
	if got, _ := times.expect("hdf5", true); got != time.Second {
		t.Errorf("hdf5 from the cache is expected to take %s, want 1s", got)
	}
	for name, damage := range map[string]string{
		"nothing": "", "cut off": `{"built":[1`, "something else": `[]`, "texts": `{"built":["x"]}`,
		"nonsense": `{"built":[-1, 1e300]}`, "huge": strings.Repeat(" ", maxTimesFile) + `{"built":[1]}`,
	} {
		if err := os.WriteFile(times.path("hdf5"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := times.expect("hdf5", false); ok {
			t.Errorf("%s: hdf5 is expected to take %s", name, got)
		}
		times.add("hdf5", time.Minute, false)
		if got, _ := times.expect("hdf5", false); got != time.Minute {
			t.Errorf("%s is not replaced", name)
		}
	}
	times.add("../../hdf5", time.Minute, false)
	if _, err := os.Stat(times.dir + "/../../hdf5.json"); err == nil {
		t.Error("a name leads out of the directory")
	}
}
