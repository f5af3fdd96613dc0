//go:build integration

package integration

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed testdata/race/race.c
var raceSource string

// raceSecondsEnv says for how many seconds TestMountPointRace tries in each
// isolation.
const raceSecondsEnv = "PDIBUILD_TEST_RACE_SECONDS"

// Two steps have a cache mount in common. One exchanges a directory in it for a
// link to a directory of the host, all the time; the other one has secrets and
// mounts below that directory. Nothing of the host may be changed or made.
func TestMountPointRace(t *testing.T) {
	t.Parallel()
	seconds := 3
	if text := os.Getenv(raceSecondsEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		seconds = n
	}
	archive := dockerArchive(t, []archiveEntry{staticProgram(t, "race", raceSource)})
	for _, isolation := range []string{"chroot", "oci"} {
		t.Run(isolation, func(t *testing.T) {
			if isolation == "oci" && !hasRuntime() {
				t.Skip("SKIPPED: neither crun nor runc is installed")
			}
			race(t, archive, isolation, seconds)
		})
	}
}

const (
	raceTargets = 12 // of secrets, of tmpfs mounts and of bind mounts
	raceSteps   = 10 // of one victim
)

func race(t *testing.T, archive, isolation string, seconds int) {
	host := newCanaries(t)
	const withCache = `version: 1
stages:
  - name: final
    from: docker-archive:%s
    steps:
      - run: [/race, %s, /c, "%s"]
        mounts: [{type: cache, target: /c, id: "NONCE"}]
`
	attacker := newProject(t, fmt.Sprintf(withCache, archive, "make", host.dir))
	made := attacker.build("--isolation", isolation)
	if made.code == 5 && isolation == "oci" {
		t.Skipf("SKIPPED: no OCI runtime works here: %s", made.stderr)
	}
	made.ok()
	attacker.recipe(fmt.Sprintf(withCache, archive, "flip", strconv.Itoa(seconds)))
	victim := newVictim(t, archive, attacker.nonce)
	var flips outcome
	var attacking sync.WaitGroup
	attacking.Go(func() { flips = attacker.run(attacker.buildArgs("--isolation", isolation)...) })
	won, lost := 0, map[string]int{}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		o := victim.build("--isolation", isolation, "--no-cache")
		switch {
		case o.code == 0:
			won++
		case o.code == 4 && strings.Contains(o.stderr, "another step that shares a mount with this one"):
			lost["is told why"]++
		default:
			lost[strings.TrimSpace(regexp.MustCompile(`(?m)^pdibuild: error: .*$`).FindString(o.stderr))]++
		}
	}
	attacking.Wait()
	if flips.code != 0 {
		t.Fatalf("exit code %d\n%s", flips.code, flips.stderr)
	}
	if problems := host.changes(); len(problems) > 0 {
		t.Errorf("the host has changed:\n%s", strings.Join(problems, "\n"))
	}
	t.Logf("%s: %s, %d victims of %d steps with %d mounts each have succeeded, others: %v",
		isolation, regexp.MustCompile(`exchanges \d+`).FindString(flips.stderr), won, raceSteps, 3*raceTargets, lost)
	delete(lost, "is told why")
	if len(lost) > 0 {
		t.Errorf("victims that lost the race are not told why: %v", lost)
	}
}

// newVictim makes a project whose steps have all kinds of mounts below a
// directory of the cache.
func newVictim(t *testing.T, archive, cache string) *project {
	var steps, secrets, declared strings.Builder
	mounts := fmt.Sprintf("{type: cache, target: /c, id: %q}", cache)
	var env []string
	for i := range raceTargets {
		mounts += fmt.Sprintf(", {type: tmpfs, target: /c/sub/tmp%d/deep}, {type: bind, source: pdibuild.yaml, target: /c/sub/bind%d}", i, i)
		fmt.Fprintf(&secrets, "{id: s%d, target: /c/sub/precious%d}, ", i, i)
		fmt.Fprintf(&declared, "  s%d: {env: RACE_SECRET_%d}\n", i, i)
		env = append(env, fmt.Sprintf("RACE_SECRET_%d=secret-%s-%d", i, nonce(), i))
	}
	for i := range raceSteps {
		fmt.Fprintf(&steps, "      - run: [/race, none]\n        env: {STEP: \"%d\"}\n        mounts: [%s]\n        secrets: [%s]\n", i, mounts, secrets.String())
	}
	p := newProject(t, fmt.Sprintf("version: 1\nsecrets:\n%sstages:\n  - name: final\n    from: docker-archive:%s\n    steps:\n%s", declared.String(), archive, steps.String()))
	p.env = env
	return p
}

// canaries are files of the host that show when they were touched.
type canaries struct {
	t   *testing.T
	dir string
}

func newCanaries(t *testing.T) *canaries {
	t.Helper()
	c := &canaries{t, filepath.Join(t.TempDir(), "host")}
	err := os.Mkdir(c.dir, 0o777)
	for i := range raceTargets {
		err = errors.Join(err, os.WriteFile(filepath.Join(c.dir, fmt.Sprintf("precious%d", i)), []byte(c.content(i)), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *canaries) content(i int) string { return fmt.Sprintf("precious %d of the host\n", i) }

// changes lists what is not as it was.
func (c *canaries) changes() []string {
	var problems []string
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(c.dir, e.Name()))
		number, isPrecious := strings.CutPrefix(e.Name(), "precious")
		i, _ := strconv.Atoi(number)
		switch {
		case !isPrecious:
			problems = append(problems, "new: "+e.Name())
		case err != nil:
			problems = append(problems, err.Error())
		case string(data) != c.content(i):
			problems = append(problems, fmt.Sprintf("%s has %d bytes", e.Name(), len(data)))
		}
	}
	if len(entries) < raceTargets {
		problems = append(problems, fmt.Sprintf("%d files are left", len(entries)))
	}
	return problems
}
