//go:build integration

package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A build that sends its steps to a cache and fetches from it may be killed at
// any moment: a fresh host that has only the cache, half filled or whole, gets
// the same image.
func TestKilledStepCaches(t *testing.T) {
	s := newScene(t)
	k := &killing{t: t, scene: s, name: "builds with a step cache", random: rand.New(rand.NewPCG(*seed, 3)), phases: map[string]int{}, extra: map[string]int{}}
	defer k.figures()
	with := func(j job, n int, flags ...string) []string {
		args := j.args()
		for _, f := range flags {
			args = append(args, f, fmt.Sprintf("%s/torture/cache%d", s.registry, n))
		}
		return args
	}
	reference := s.job("reference")
	st := s.newStore(t, "reference")
	want := k.measure(st, reference)
	st.must(with(reference, 0, "--cache-to")...)
	// What a host has that has fetched all that it needs.
	fresh, other := s.job("fetched"), s.newStore(t, "fetched")
	other.must(with(fresh, 0, "--cache-from")...)
	other.must(fresh.args()...)
	k.want = other.inventory()
	fetched := 0
	for n := 1; k.kills < max(1, *kills/8) && n <= *kills; n++ {
		j, st := s.job(fmt.Sprintf("to%d", n)), s.newStore(t, fmt.Sprintf("to%d", n))
		k.kill(st, with(j, n, "--cache-to", "--cache-from"), nil)
		for _, when := range []string{"half", "whole"} {
			name := fmt.Sprintf("%s%d", when, n)
			fresh, other := s.job(name), s.newStore(t, name)
			if n%2 == 0 { // who fetches is killed, too
				k.kill(other, with(fresh, n, "--cache-from"), nil)
			}
			other.must(with(fresh, n, "--cache-from")...)
			fresh.right(t, want)
			fetched += fresh.result(t).Cached
			if left := append(works(other), other.quiet()...); len(left) > 0 {
				t.Errorf("seed %d, after kill %d: still there:\n%s", *seed, k.kills, strings.Join(left, "\n"))
			}
			if when == "whole" {
				other.must(fresh.args()...)
				k.left(other)
			}
			other.remove()
			st.must(with(j, n, "--cache-to", "--cache-from")...)
			j.right(t, want)
		}
		st.remove()
	}
	figure("    hosts that had only the cache took %d steps from it", fetched)
}

// A base that is bootstrapped may be killed, too. It takes minutes, and a
// distribution's mirror, so only a long run does it.
func TestKilledBootstraps(t *testing.T) {
	if *kills < 50 {
		t.Skip("SKIPPED: this is for a long run (hack/torture --full)")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("SKIPPED: mmdebstrap is not installed; apt-get install mmdebstrap")
	}
	s := newScene(t)
	s.write(t, "pdibuild.yaml", []byte("version: 1\nname: localhost/torture\nsecrets: {token: {optional: true}}\nstages:\n"+
		"  - {name: s, from: 'mmdebstrap:bookworm', steps: [{run: echo x > /x}]}\n"))
	k := &killing{t: t, scene: s, name: "bootstrapped bases", random: rand.New(rand.NewPCG(*seed, 4)), phases: map[string]int{}, extra: map[string]int{}}
	defer k.figures()
	want := k.measure(s.newStore(t, "reference"), s.job("reference"))
	for n := 0; k.kills < *kills/20 && n < *kills; n++ {
		j, st := s.job(fmt.Sprintf("b%d", n)), s.newStore(t, fmt.Sprintf("b%d", n))
		// Nearly all of the time is the tool's.
		k.events = map[string][]int{}
		done := k.kill(st, j.args(), nil)
		k.goesOn(st, j, done, want)
	}
}

// Root and two other users of one machine build the same at the same time, each
// in a store of their own, and share a step cache in a registry: all get the
// same image.
func TestUsersAtOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can be several users")
	}
	var users []*user.User
	for _, name := range []string{"root", "pdibuild-sub", "pdibuild-single"} {
		u, err := user.Lookup(name)
		if err != nil {
			t.Skipf("SKIPPED: there is no user %s; hack/test makes them", name)
		}
		users = append(users, u)
	}
	s := newScene(t)
	// The directory for temporary files itself may be everybody's.
	for dir := s.dir; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			break // not ours
		}
	}
	cache := s.registry + "/torture/shared"
	ids, errs := make([]string, len(users)), make([]error, len(users))
	var all sync.WaitGroup
	for i, u := range users {
		all.Go(func() { ids[i], errs[i] = s.buildAs(u, cache) })
	}
	all.Wait()
	for i, u := range users {
		if errs[i] != nil || ids[i] != ids[0] || ids[i] == "" {
			t.Errorf("%s got the image %q, root %q (%v)", u.Username, ids[i], ids[0], errs[i])
		}
	}
	figure("%d users at once, with one step cache: the same image", len(users))
}

// buildAs builds as the user, in a home of its own.
func (s *scene) buildAs(u *user.User, cache string) (string, error) {
	home, err := os.MkdirTemp("/var/tmp", "torture-home-")
	if err != nil {
		return "", err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(home, uid, gid); err != nil {
		return "", err
	}
	// Files of subordinate ids are root's to remove, too.
	defer os.RemoveAll(home)
	cmd := exec.Command(program, "build", "--storage-root", home+"/store", "--tls-verify=false", "--cache-from", cache, "--cache-to", cache, s.context)
	cmd.Env = []string{"HOME=" + home, "USER=" + u.Username, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.Dir = home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}
