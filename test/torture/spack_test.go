//go:build integration

package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/spackdouble"
)

// REGISTRY is replaced. The program strip is a double, too: it writes every file
// anew, and takes its time.
const spackRecipe = `version: 1
name: localhost/torture
secrets: {token: {optional: true}}
stages:
  - name: builder
    from: REGISTRY/torture/base:1
    steps:
      - {copy: spack, to: /opt/spack/bin/spack, mode: "0755"}
      - {copy: strip, to: /bin/strip, mode: "0755"}
      - spack: {environment: spack.yaml, strip: true}
      - run: . /opt/spack-environment/activate.sh && app
  - name: final
    from: REGISTRY/torture/base:1
    steps:
      - environment: builder
      - user: {name: pdi, uid: 1001}
      - check: app
    entrypoint: activate
    cmd: [app]
`

const stripDouble = `#!/bin/sh
set -e
for f; do
	case $f in -*) continue ;; esac
	cp "$f" "$f.whole"
	head -c 1000 "$f.whole" >"$f"
	sleep 0.05
	cat "$f.whole" >"$f"
	rm "$f.whole"
done
`

// newSpackScene is a scene whose recipe has a spack and an environment step. The
// command spack is a double, which stands for Spack's flow alone: hack/test-spack
// kills the real one.
func newSpackScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	for name, text := range map[string]string{
		"pdibuild.yaml": strings.ReplaceAll(spackRecipe, "REGISTRY", s.registry),
		"spack":         spackdouble.Script, "strip": stripDouble,
		"spack.yaml": "spack: # unhurried\n  view: true\n  specs: [app]\n",
	} {
		s.write(t, name, []byte(text))
	}
	return s
}

// A build of a Spack environment may be killed at any moment, too: while Spack
// concretizes, installs, or writes to the local binary cache, while packages are
// stripped and become layers. The next one ends with the same image, builds no
// finished package again, and leaves nothing in the binary cache but packages.
func TestKilledSpackSteps(t *testing.T) {
	s := newSpackScene(t)
	k := &killing{t: t, scene: s, name: "Spack environments", random: rand.New(rand.NewPCG(*seed, 5)), phases: map[string]int{}, extra: map[string]int{}, pace: 250 * time.Millisecond}
	defer k.figures()
	st := s.newStore(t, "reference")
	want := k.measure(st, s.job("reference"))
	if got := built(k.seen); !slices.Equal(got, []string{"app", "base", "tool"}) {
		t.Fatalf("the build that is left alone says that it built %q", got)
	}
	if got := st.packages(); len(got.finished) != 3 || len(got.halves) > 0 {
		t.Fatalf("the binary cache of a build that is left alone: %v", got)
	}
	var finished []string
	look := func(st *store) packageCache {
		k.notBuiltAgain(finished)
		return st.packages()
	}
	k.look = func(st *store) {
		if got := look(st); len(got.finished) != 3 || len(got.halves) > 0 {
			t.Errorf("seed %d, after kill %d: the binary cache has %v", *seed, k.kills, got)
		}
	}
	halves := 0
	for n := 0; k.kills < max(1, *kills/2) && n < 2**kills; n++ {
		name := fmt.Sprintf("spack%d", n)
		j, st := s.job(name), s.newStore(t, name)
		var done []string
		finished = nil
		for range 1 + k.random.IntN(3) {
			done = k.kill(st, j.args(), done)
			packages := look(st)
			if finished = packages.finished; len(packages.halves) > 0 {
				halves++
			}
		}
		k.goesOn(st, j, done, want)
	}
	figure("    %d kills left halves of packages in the local binary cache", halves)
}

// notBuiltAgain fails the test if the last run has built one of these packages.
func (k *killing) notBuiltAgain(finished []string) {
	k.t.Helper()
	for _, name := range built(k.seen) {
		if slices.Contains(finished, name) {
			k.t.Errorf("seed %d, kill %d: package %s was finished and is built again", *seed, k.kills, name)
		}
	}
}

var compiles = regexp.MustCompile(`^\[ \] \w+ (\w+)@1\.0 install`)

// built are the packages that the double says it compiles, sorted.
func built(seen []event) (names []string) {
	for _, e := range seen {
		if m := compiles.FindStringSubmatch(e.Line); m != nil {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

// A packageCache is what a local binary cache has: packages all of which is
// there, and other files.
type packageCache struct{ finished, halves []string }

// packages looks into the store's local binary cache, with its own eyes.
func (st *store) packages() (c packageCache) {
	st.t.Helper()
	dir := filepath.Join(st.dir, "pdibuild/cache/spack/buildcache")
	// Files with their digests, then the text of manifests, one a line.
	out, err := inNamespace(exec.Command("sh", "-c", `cd "$1" 2>/dev/null || exit 0
		find . -type f ! -name layout.json ! -name '*.spec.manifest.json' -exec sha256sum {} +
		find . -name '*.spec.manifest.json' -exec sh -c 'for f; do echo "$f $(tr -d "\n" <"$f")"; done' sh {} +
		find . -name layout.json -exec sh -c 'for f; do echo "$f $(cat "$f")"; done' sh {} +`, "sh", dir)).Output()
	if err != nil {
		st.t.Fatalf("look into the binary cache: %v", err)
	}
	sound, named := map[string]bool{}, map[string]bool{}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for _, line := range lines {
		if sum, name, ok := strings.Cut(line, "  ./blobs/sha256/"); ok && name == sum[:2]+"/"+sum {
			sound[sum] = true
		}
	}
	for _, line := range lines {
		name, text, _ := strings.Cut(line, " ")
		var m struct {
			Data []struct{ Checksum string }
		}
		switch {
		case strings.HasSuffix(name, ".spec.manifest.json"):
			whole := json.Unmarshal([]byte(text), &m) == nil && len(m.Data) == 2
			for _, blob := range m.Data {
				named[blob.Checksum] = true
				whole = whole && sound[blob.Checksum]
			}
			if whole {
				c.finished = append(c.finished, filepath.Base(filepath.Dir(name)))
			} else {
				c.halves = append(c.halves, line)
			}
		case strings.HasSuffix(name, "layout.json") && !json.Valid([]byte(text)):
			c.halves = append(c.halves, line)
		}
	}
	for _, line := range lines {
		sum, name, ok := strings.Cut(line, "  ./")
		if ok && (!sound[sum] || !named[sum] || name != "blobs/sha256/"+sum[:2]+"/"+sum) {
			c.halves = append(c.halves, name)
		}
	}
	slices.Sort(c.finished)
	return c
}
