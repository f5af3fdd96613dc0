//go:build integration

package differential

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/busybox"
)

// TestDifferential builds scenarios and compares.
func TestDifferential(t *testing.T) {
	program := busybox.Find(t)
	dir := prepare(t)
	base := filepath.Join(dir, "base")
	data, err := os.ReadFile(program)
	must(t, errors.Join(err, os.Mkdir(base, 0o755), os.WriteFile(filepath.Join(base, "busybox"), data, 0o755), os.WriteFile(filepath.Join(base, "pdibuild.yaml"), []byte(baseRecipe), 0o644)))
	start := time.Now()
	numbers := make(chan uint64)
	found := &findings{t: t}
	var wg sync.WaitGroup
	for n := range *jobs {
		wg.Go(func() {
			b := &bench{dir: filepath.Join(dir, fmt.Sprint("bench", n)), base: base}
			for number := range numbers {
				if err := b.compare(number, found); err != nil {
					t.Errorf("seed %d: %v", number, err)
				}
			}
			if err := b.remove(); err != nil {
				t.Error(err)
			}
		})
	}
	done := 0
	for ; done < *count && found.number() < *failures; done++ {
		numbers <- *seed + uint64(done)
		if done > 0 && done%100 == 0 {
			t.Logf("%d scenarios in %.0f s, %d differ", done, time.Since(start).Seconds(), found.number())
		}
	}
	close(numbers)
	wg.Wait()
	t.Logf("%d scenarios from seed %d in %.0f s, %d differ, %s", done, *seed, time.Since(start).Seconds(), found.number(), &used)
}

// findings are the scenarios with a difference.
type findings struct {
	t *testing.T
	sync.Mutex
	n int
}

func (f *findings) number() int {
	f.Lock()
	defer f.Unlock()
	return f.n
}

func (f *findings) add(format string, args ...any) {
	f.Lock()
	defer f.Unlock()
	f.n++
	f.t.Errorf(format, args...)
}

// used counts what happened: comparisons and intended differences.
var used counter

type counter struct {
	sync.Mutex
	m map[string]int
}

func (c *counter) add(name string) {
	c.Lock()
	defer c.Unlock()
	if c.m == nil {
		c.m = map[string]int{}
	}
	c.m[name]++
}

func (c *counter) String() string {
	c.Lock()
	defer c.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.m)) {
		parts = append(parts, fmt.Sprintf("%d %s", c.m[name], name))
	}
	return strings.Join(parts, ", ")
}

// A bench has what one scenario after the other is built with.
type bench struct {
	dir, base string
	judge     *judge
	judged    int
	builders  map[way]*builder
	// n counts builds, each of which has files of its own.
	n int
}

// Stores are made anew after some builds; vfs copies every layer.
var storeLimit = map[string]int{"overlay": 100, "vfs": 12}

func (b *bench) builder(w way) (*builder, error) {
	if b.builders == nil {
		b.builders = map[way]*builder{}
	}
	one := b.builders[w]
	if one == nil {
		one = &builder{way: w, dir: filepath.Join(b.dir, strings.ReplaceAll(w.String(), "/", "-"))}
		b.builders[w] = one
	}
	if one.used > storeLimit[w.driver] {
		if err := os.RemoveAll(one.dir); err != nil {
			return nil, err
		}
		one.used = 0
	}
	return one, one.open(b.base)
}

// openJudge makes one whose store is not too full.
func (b *bench) openJudge() error {
	if b.judge != nil && b.judged < 60 {
		b.judged++
		return nil
	}
	if b.judge != nil {
		if err := b.judge.remove(); err != nil {
			return err
		}
	}
	one, err := b.builder(firstWay)
	if err != nil {
		return err
	}
	layout := filepath.Join(b.dir, "base-layout")
	if out, code, err := one.run("build", "-q", "--output", "type=oci,dest="+layout, b.base); err != nil || code != 0 {
		return fmt.Errorf("export the base image: %w %s", err, out)
	}
	b.judged = 0
	b.judge, err = newJudge(filepath.Join(b.dir, "judge"), layout)
	return errors.Join(err, os.RemoveAll(layout))
}

func (b *bench) remove() error {
	var err error
	if b.judge != nil {
		err = b.judge.remove()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// compare builds scenario number and reports what differs.
func (b *bench) compare(number uint64, found *findings) error {
	used.add("scenarios")
	s := generate(number)
	for _, c := range b.comparisons(number) {
		differences, err := c.compare(s)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", c.name, err, s.describe())
		}
		if len(differences) > 0 {
			s, differences = smaller(s, differences, c)
			found.add("seed %d, %s:\n%s\n%s", number, c.name, describeAll(differences), s.describe())
			return nil
		}
	}
	return nil
}

// A comparison is one of two outcomes; it returns what is not intended.
type comparison struct {
	name    string
	compare func(*scenario) ([]difference, error)
}

func (b *bench) comparisons(number uint64) []comparison {
	var all []comparison
	if *judged {
		all = append(all, comparison{"pdibuild and Buildah", b.withJudge})
	}
	if *every == 0 || number%uint64(*every) != 0 {
		return all
	}
	if *judged {
		all = append(all, comparison{"pdibuild and its Containerfile with Buildah", b.withPrinted})
	}
	for _, w := range otherWays {
		all = append(all, comparison{firstWay.String() + " and " + w.String(), func(s *scenario) ([]difference, error) { return b.withWay(s, w) }})
	}
	return all
}

// scene writes a scenario to files of its own.
type scene struct {
	dir, context, recipe, files, containerfile string
}

func (b *bench) scene(s *scenario, uid int, capabilities bool) (*scene, error) {
	b.n++
	dir := filepath.Join(b.dir, "scene", fmt.Sprint(b.n))
	sc := &scene{dir, filepath.Join(dir, "context"), filepath.Join(dir, "pdibuild.yaml"), filepath.Join(dir, "files"), filepath.Join(dir, "Containerfile")}
	if err := errors.Join(os.MkdirAll(sc.files, 0o755), s.writeContext(sc.context, uid, capabilities)); err != nil {
		return nil, err
	}
	text, err := s.recipe()
	if err != nil {
		return nil, err
	}
	printed, err := s.containerfile(sc.files)
	return sc, errors.Join(err, os.Chown(dir, uid, uid), os.WriteFile(sc.recipe, text, 0o644), os.WriteFile(sc.containerfile, printed, 0o644))
}

func (b *bench) withJudge(s *scenario) ([]difference, error) {
	return b.withContainerfile(s, func(*scene) error { return nil })
}

// withPrinted compares with what the program prints.
func (b *bench) withPrinted(s *scenario) ([]difference, error) {
	return b.withContainerfile(s, func(sc *scene) error {
		out, code, err := b.builders[firstWay].run("containerfile", "--file", sc.recipe, sc.context)
		if err != nil || code != 0 {
			return fmt.Errorf("containerfile: exit code %d: %w %s", code, err, out)
		}
		return os.WriteFile(sc.containerfile, []byte(out), 0o644)
	})
}

func (b *bench) withContainerfile(s *scenario, change func(*scene) error) (_ []difference, err error) {
	if err := b.openJudge(); err != nil {
		return nil, err
	}
	one, err := b.builder(firstWay)
	if err != nil {
		return nil, err
	}
	sc, err := b.scene(s, 0, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sc.dir)) }()
	ours, err := one.build(sc.recipe, sc.context, filepath.Join(sc.dir, "ours"))
	if err != nil {
		return nil, err
	}
	if err := change(sc); err != nil {
		return nil, err
	}
	return b.opinion(s, sc, ours)
}

// opinion compares with one layer for all steps, which is faster, and where that
// differs with a layer for each: the kernel separates the names of a file when
// it is changed in another layer.
func (b *bench) opinion(s *scenario, sc *scene, ours *outcome) ([]difference, error) {
	theirs, err := b.judge.build(sc, "", filepath.Join(sc.dir, "theirs"), false)
	if err != nil {
		return nil, err
	}
	if ours.refusal != "" && theirs.refusal != "" {
		used.add("refused by both")
		if *verbose {
			fmt.Printf("refused by both:\n%s\n%s\n", ours.refusal, theirs.refusal)
		}
	}
	if len(unintended(s, compare(ours, theirs), ours, theirs)) == 0 {
		return nil, nil
	}
	if theirs, err = b.judge.build(sc, "", filepath.Join(sc.dir, "layers"), true); err != nil {
		return nil, err
	}
	for _, st := range s.stages {
		out, err := b.judge.build(sc, st.name, filepath.Join(sc.dir, "stage-"+st.name), true)
		if err != nil {
			return nil, err
		}
		if out.image != nil {
			theirs.lost = append(theirs.lost, out.image.lost...)
		}
	}
	return unintended(s, compare(ours, theirs), ours, theirs), nil
}

// withWay compares the ids of images. Only root can give capabilities to files.
func (b *bench) withWay(s *scenario, other way) (_ []difference, err error) {
	var outcomes [2]*outcome
	for i, w := range []way{firstWay, other} {
		one, err := b.builder(w)
		if err != nil {
			return nil, err
		}
		sc, err := b.scene(s, w.user.uid, other.user == root)
		if err != nil {
			return nil, err
		}
		outcomes[i], err = one.build(sc.recipe, sc.context, filepath.Join(sc.dir, "out"))
		if err := errors.Join(err, os.RemoveAll(sc.dir)); err != nil {
			return nil, err
		}
	}
	all := compare(outcomes[0], outcomes[1])
	if a, b := outcomes[0].id, outcomes[1].id; a != b && len(all) == 0 {
		all = append(all, difference{"id", "", a, b})
	}
	return unintended(s, all, outcomes[0], outcomes[1]), nil
}
