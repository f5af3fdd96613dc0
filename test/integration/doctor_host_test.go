//go:build integration

package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/test/registry"
)

// The clock is compared with those of registries, also where no certificate
// counts because of it. This host's clock belongs to everybody on it, so the
// wrong one is the registry's: a front whose answers have another Date.
func TestDoctorClock(t *testing.T) {
	t.Parallel()
	diagnose(t, "").finds("clock", "ok")
	for name, c := range map[string]struct {
		front  registry.FrontOptions
		flags  []string
		status string // of the registry's own finding
		words  []string
	}{
		"behind":                 {registry.FrontOptions{Ahead: 5 * time.Hour}, []string{"--tls-verify=false"}, "ok", []string{"behind that of", "timedatectl"}},
		"ahead":                  {registry.FrontOptions{Ahead: -5 * time.Hour}, []string{"--tls-verify=false"}, "ok", []string{"ahead of that of", "certificates"}},
		"an unknown certificate": {registry.FrontOptions{Ahead: -5 * time.Hour, TLS: true}, nil, "warning", []string{"ahead of that of"}},
	} {
		t.Run(name, func(t *testing.T) {
			front := registry.StartFront(t, c.front)
			d := diagnoseWith(t, append(c.flags, "--registry", front.Address), "")
			d.finds("registry "+front.Address, c.status)
			clocks := 0
			for _, f := range d.findings {
				if f.Check == "clock" && f.Status == "warning" {
					clocks++
					(diagnosis{t: t, findings: []finding{f}}).finds("clock", "warning", append(c.words, front.Address)...)
					if !strings.Contains(f.Found, "h") || !strings.Contains(f.Found, "5h0m") && !strings.Contains(f.Found, "4h59m") {
						t.Errorf("it does not say by how much: %s", f.Found)
					}
				}
			}
			if clocks != 1 || d.code != 0 {
				t.Errorf("%d warnings about the clock, exit code %d\n%s", clocks, d.code, d.stdout)
			}
		})
	}
}

// A registry is asked as a build would ask it: what makes a pull work makes
// doctor say so, too.
func TestDoctorRegistry(t *testing.T) {
	t.Parallel()
	secure := registry.StartFront(t, registry.FrontOptions{TLS: true})
	plain := registry.StartFront(t, registry.FrontOptions{})
	locked := registry.Start(t, registry.Options{User: "me", Password: "a password"})
	tokens := registry.Start(t, registry.Options{User: "me", Password: "a password", Tokens: true})
	house := t.TempDir() // a home directory with settings
	config := filepath.Join(house, ".config", "containers")
	certs := filepath.Join(config, "certs.d", secure.Address)
	authority, err := os.ReadFile(filepath.Join(secure.Authority, "ca.crt"))
	if err := errors.Join(err, os.MkdirAll(certs, 0o755), os.WriteFile(filepath.Join(certs, "ca.crt"), authority, 0o644),
		os.WriteFile(filepath.Join(config, "registries.conf"), []byte("[[registry]]\nlocation = \""+plain.Address+"\"\ninsecure = true\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, registry string
		flags          []string
		status         string
		words          []string
		env            []string
	}{
		{"unknown certificate", secure.Address, nil, "warning", []string{"certificate", "--cert-dir"}, nil},
		{"the certificate's directory", secure.Address, []string{"--cert-dir", secure.Authority}, "ok", []string{"answers"}, nil},
		{"any certificate", secure.Address, []string{"--tls-verify=false"}, "ok", []string{"answers"}, nil},
		{"the certificate in certs.d", secure.Address, nil, "ok", []string{"answers"}, []string{"HOME=" + house, "XDG_CONFIG_HOME=" + filepath.Dir(config)}},
		{"no TLS", plain.Address, nil, "warning", []string{"HTTP response to HTTPS client", "--tls-verify=false"}, nil},
		{"no TLS as asked for", plain.Address, []string{"--tls-verify=false"}, "ok", []string{"answers"}, nil},
		{"no TLS as registries.conf says", plain.Address, nil, "ok", []string{"answers"}, []string{"HOME=" + house, "XDG_CONFIG_HOME=" + filepath.Dir(config)}},
		{"a repository's name", "docker://" + plain.Address + "/group/app", []string{"--tls-verify=false"}, "ok", []string{"answers"}, nil},
		{"a password", locked, []string{"--tls-verify=false"}, "ok", []string{"answers"}, nil},
		{"tokens", tokens, []string{"--tls-verify=false"}, "ok", []string{"answers"}, nil},
		{"nobody", "127.0.0.1:1", nil, "warning", []string{"connection refused", "https_proxy"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := diagnoseWith(t, append(c.flags, "--registry", c.registry), "", c.env...)
			d.finds("registry "+c.registry, c.status, c.words...)
			if d.code != 0 {
				t.Errorf("exit code %d, want 0: builds without it work\n%s", d.code, d.stdout)
			}
		})
	}
	for _, name := range []string{"", "https://", "two words"} {
		if _, stderr, code := inSituation(t, t.TempDir(), "", nil, "doctor", "--registry", name); code != 2 || !strings.Contains(stderr, "names no registry") {
			t.Errorf("--registry %q: exit code %d\n%s", name, code, stderr)
		}
	}
}

// An error that ends a command with exit code 5 says what doctor says of the
// same situation, in the same words, and names doctor.
func TestDoctorAndErrorsAgree(t *testing.T) {
	t.Parallel()
	needTool(t, "unshare")
	const step = "steps: [{file: /x, content: y}]}\n"
	recipes := map[string]string{"": "{name: s, from: scratch, " + step}
	for _, check := range []string{"policy", "registries-conf"} { // which nobody reads who fetches nothing
		recipes[check] = "{name: s, from: '127.0.0.1:1/nothing:1', " + step
	}
	tiny := map[string]bool{"small tmpfs": true, "few inodes": true, "no extended attributes": true}
	all := append(situations(), situation{name: "no mapping", script: `exec unshare --user "$@"`, check: "user-namespaces", code: 5},
		situation{name: "store that is a file", script: `echo >$S; exec "$@"`, check: "store", code: 5},
		situation{name: "no mounts", script: sandboxed(t, "165"), check: "user-namespaces", code: 5})
	for _, s := range all {
		if s.code != 5 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			d := diagnose(t, s.script, s.env...)
			dir := t.TempDir()
			recipe, special := recipes[s.check]
			if !special {
				recipe = recipes[""]
			}
			p := newProject(t, "version: 1\nstages:\n  - "+recipe)
			_, stderr, code := inSituation(t, dir, s.script, s.env, "build", "--storage-root", filepath.Join(dir, "store"), p.dir)
			if tiny[s.name] {
				if code != 0 {
					t.Errorf("exit code %d, want 0: this image needs nearly nothing\n%s", code, stderr)
				}
				return
			}
			if code != 5 {
				t.Fatalf("exit code %d, want 5\n%s", code, stderr)
			}
			for _, f := range d.findings {
				if f.Check == s.check && (!strings.Contains(stderr, f.User) || !strings.Contains(stderr, f.Admin)) {
					t.Errorf("doctor says %q and %q, the build\n%s", f.User, f.Admin, stderr)
				}
			}
			says(t, stderr, "'pdibuild doctor'")
		})
	}
}

// A user namespace that somebody else has made is not the user's: its ids are
// what there is, and nobody is asked to repair newuidmap.
func TestDoctorForeignNamespace(t *testing.T) {
	t.Parallel()
	needTool(t, "unshare")
	t.Run("with one id", func(t *testing.T) {
		d := diagnose(t, `exec unshare --user --map-root-user "$@"`)
		d.finds("subordinate-ids", "note", "around this program has one id", "outside of that namespace")
		if d.code != 0 {
			t.Errorf("exit code %d\n%s", d.code, d.stdout)
		}
	})
	t.Run("without a mapping", func(t *testing.T) {
		// The user has no name and owns nothing there.
		d := diagnose(t, `exec unshare --user "$@"`)
		d.finds("user-namespaces", "error", "create a user namespace: operation not permitted (this is in a user namespace that does not map its user)", "--map-root-user")
		for _, f := range d.findings {
			if f.Check == "subordinate-ids" {
				t.Errorf("ids of nobody are looked for: %+v", f)
			}
		}
		if d.code != 5 {
			t.Errorf("exit code %d, want 5", d.code)
		}
	})
}

// A store that is vfs stays so, and doctor says what helps: another store.
func TestDoctorKeepsVFS(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\nstages:\n  - {name: s, from: scratch, steps: [{file: /x, content: y}]}\n")
	p.freshStore()
	p.build("--storage-driver", "vfs").ok()
	d := diagnoseWith(t, []string{"--storage-root", p.store}, "")
	d.finds("store", "warning", "vfs", "although overlay works there", "use another store")
	p.build().ok() // as it said, it works
}

// What a home directory is needed for depends on where the store is.
func TestDoctorHome(t *testing.T) {
	t.Parallel()
	want := "warning"
	if kindOfUser() == asRoot { // whose store is somewhere else
		want = "note"
	}
	for name, script := range map[string]string{
		"not set":      `unset HOME; XDG_DATA_HOME=$D/data exec "$@"`,
		"not there":    `HOME=$D/no/such XDG_DATA_HOME=$D/data exec "$@"`,
		"not writable": `mkdir $D/home && mount --bind $D/home $D/home && mount -o remount,bind,ro $D/home && HOME=$D/home exec "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			if kindOfUser() == asRoot && strings.Contains(script, "mount") {
				t.Skip("SKIPPED: root of a user namespace has no store of its own")
			}
			dir := t.TempDir()
			out, stderr, _ := inSituation(t, dir, script, nil, "doctor")
			t.Cleanup(func() { removeStore(t, filepath.Join(dir, "data")) })
			found := false
			for line := range strings.Lines(out) {
				found = found || strings.HasPrefix(line, want) && strings.Contains(line, " home ")
			}
			if !found {
				t.Errorf("there is no %s about the home directory\n%s%s", want, out, stderr)
			}
		})
	}
}

// elsewhere runs a script as root of a mount namespace in which /etc can be
// changed and /mnt is empty; 'as ID COMMAND…' there is an ordinary user, doctor
// looks at a host with a store at /mnt/store.
func elsewhere(t *testing.T, script string) (stdout string) {
	t.Helper()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: only root can change users and programs, in a mount namespace of its own")
	}
	needTool(t, "setpriv")
	prelude := `set -e
mount -t tmpfs -o mode=1777 tmpfs /mnt
mkdir /mnt/u /mnt/w /mnt/home
chmod 1777 /mnt/home
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w overlay /etc
cp "$1" /mnt/pdibuild
as() { id=$1; shift; env -i PATH="$PATH" HOME=/mnt/home/$id setpriv --reuid=$id --regid=$id --clear-groups "$@"; }
new() { sed -i '/^ada:/d;/^4242:/d' /etc/subuid /etc/subgid; rm -rf /mnt/store; }
doctor() { as 4242 /mnt/pdibuild doctor --storage-root /mnt/store || echo "exit code $?"; }
touch /etc/subuid /etc/subgid
as 4242 mkdir /mnt/home/4242
`
	out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", prelude+script, "sh", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// says fails the test unless a text has all of these words.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("there is no %q in\n%s", w, text)
		}
	}
}

// What doctor tells an administrator to do about ids is done, word by word, and
// then there is nothing left to do.
func TestDoctorIDsAreMended(t *testing.T) {
	t.Parallel()
	const pasted = `
fix=$(doctor | sed -n "/subordinate-ids/,/administrator/s/.*administrator: .*'\(user[^']*\|echo [^']*\|chmod [^']*\)'.*/\1/p" | sed 's/NAME/ada/g')
echo "FIX $fix"
sh -c "$fix" >/dev/null
rm -rf /mnt/store
doctor | sed 's/^/AFTER /'
`
	const ada = `new; echo ada:x:4242:4242::/mnt/home/4242:/bin/sh >>/etc/passwd; `
	t.Run("a user without a name", func(t *testing.T) {
		out := elsewhere(t, `new; echo other:100000:65536 >>/etc/subuid; doctor`+pasted)
		says(t, out, "newuidmap gives nothing to uid 4242 (without an entry in the user database)", "FIX useradd --no-create-home --uid 4242 ada", "AFTER ok       subordinate-ids")
		if strings.Contains(out, "subuids 100000") {
			t.Errorf("it gives ids that another user has\n%s", out)
		}
	})
	t.Run("a user of /etc/passwd", func(t *testing.T) {
		out := elsewhere(t, ada+`doctor`+pasted)
		says(t, out, "no range for ada (uid 4242)", "FIX usermod --add-subuids", "AFTER ok       subordinate-ids      65536 for ada (uid 4242)")
	})
	t.Run("one of two files", func(t *testing.T) {
		says(t, elsewhere(t, ada+`echo ada:500000:65536 >>/etc/subuid; doctor`),
			"warning  subordinate-ids", "only one of /etc/subuid (65536 ids) and /etc/subgid (0 ids)")
	})
	t.Run("few ids", func(t *testing.T) {
		says(t, elsewhere(t, ada+`for f in /etc/subuid /etc/subgid; do echo ada:500000:1000 >>$f; done; doctor`),
			"warning  subordinate-ids", "has 1000 user ids and 1000 group ids", "cannot be unpacked")
	})
	t.Run("newuidmap without its rights", func(t *testing.T) {
		out := elsewhere(t, ada+`for f in /etc/subuid /etc/subgid; do echo ada:500000:65536 >>$f; done
for p in newuidmap newgidmap; do cp "$(command -v $p)" /mnt/$p; chmod 755 /mnt/$p; mount --bind /mnt/$p "$(command -v $p)"; done
doctor`+pasted)
		says(t, out, "has 65536 ids, but newuidmap could not map them", "FIX chmod u+s", "AFTER ok       subordinate-ids")
	})
}

// A policy that this user may not read: a right one in the home directory, as
// doctor says it, is used instead.
func TestDoctorPolicyIsMended(t *testing.T) {
	t.Parallel()
	out := elsewhere(t, `mkdir -p /etc/containers; echo '{"default": [{"type": "reject"}]}' >/etc/containers/policy.json; chmod 600 /etc/containers/policy.json
doctor
fix=$(doctor | sed -n "/policy/,/you:/s/.*such as '\([^']*\)'.*/\1/p")
as 4242 mkdir -p /mnt/home/4242/.config/containers
echo "$fix" | as 4242 tee /mnt/home/4242/.config/containers/policy.json
doctor | sed 's/^/AFTER /'`)
	says(t, out, "error    policy", "permission denied", "exit code 5", "AFTER ok       policy               /mnt/home/4242/.config/containers/policy.json")
}

// In a chroot there are no user namespaces, whatever is set.
func TestDoctorChroot(t *testing.T) {
	t.Parallel()
	out := elsewhere(t, `mkdir /mnt/root; cd /mnt/root
for d in usr etc var proc sys dev mnt; do mkdir $d; mount --rbind /$d $d; done
for d in bin lib lib64 sbin; do if [ -L /$d ]; then ln -s usr/$d $d; elif [ -e /$d ]; then mkdir $d; mount --bind /$d $d; fi; done
mkdir -m 1777 tmp
env -i HOME=/tmp PATH="$PATH" chroot --userspec=4242:4242 . /mnt/pdibuild doctor --storage-root /tmp/store || echo "exit code $?"`)
	says(t, out, "error    user-namespaces", "create a user namespace: operation not permitted (this is inside of a chroot)", "start it outside of the chroot", "exit code 5")
}

// Without /proc no program can find out who it is.
func TestDoctorNoProc(t *testing.T) {
	t.Parallel()
	out := elsewhere(t, `mount -t tmpfs tmpfs /proc; doctor; as 4242 /mnt/pdibuild images --storage-root /mnt/store || echo "exit code $?"`)
	says(t, out, "error    user-namespaces      find this program: stat /proc/self/exe: no such file or directory", "make /proc available", "hint: make /proc available")
	if strings.Count(out, "exit code 5") != 2 || strings.Contains(out, "subordinate-ids") {
		t.Errorf("the codes, or the findings, are others\n%s", out)
	}
}

// Inside of a container as podman starts it, and with what doctor says is
// lacking.
func TestDoctorInContainer(t *testing.T) {
	t.Parallel()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: podman has another store for this user")
	}
	needTool(t, "podman")
	dir, err := os.MkdirTemp("/tmp", "pdi") // podman takes at most 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", "-R", filepath.Join(dir, "r", "overlay")).Run()
		_ = os.RemoveAll(dir)
	})
	p := newProject(t, "version: 1\nname: localhost/doctor-base\nstages:\n  - {name: s, from: BASE}\n")
	archive := filepath.Join(t.TempDir(), "image.tar")
	p.build("--tag", "test", "-o", "type=docker-archive,dest="+archive).ok()
	podman := []string{"--root", filepath.Join(dir, "r"), "--runroot", filepath.Join(dir, "x")}
	judge(t, "podman", append(podman, "load", "-i", archive)...)
	run := func(flags ...string) string {
		args := append([]string{"--runtime", "runc"}, podman...)
		args = append(args, "run", "--rm", "--network=none", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "-v", program+":/pdibuild:ro")
		args = append(append(args, flags...), "localhost/doctor-base:test", "/pdibuild", "doctor")
		out, _ := tryJudge("podman", args...) // which ends as doctor does
		return out
	}
	out := run()
	says(t, out, "note     container            this is inside of a podman container", "note     seccomp", "warning  store                vfs", "mount a volume there, such as '-v DIR:/var/lib/containers/storage'", "Builds work here, with the limits above.")
	volume := t.TempDir()
	t.Cleanup(func() { removeStore(t, volume) })
	out = run("--security-opt", "seccomp=unconfined", "-v", volume+":/var/lib/containers/storage")
	says(t, out, "ok       seccomp", "ok       store                overlay at /var/lib/containers/storage")
}
