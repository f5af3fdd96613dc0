//go:build integration

package integration

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A finding is what 'pdibuild doctor --format json' says.
type finding struct {
	Check, Status, Found, Means, Admin, User string
}

// A diagnosis is one run of doctor.
type diagnosis struct {
	t        *testing.T
	code     int
	stdout   string
	findings []finding
}

// A situation is a host as it could be. Its script is a shell's, which is root
// of a user and mount namespace of its own and ends in "$@": the program. D is
// an empty directory, S the directory for the store.
type situation struct {
	name   string
	script string
	env    []string
	// check, status and words of the finding that is expected.
	check, status string
	words         []string
	code          int
}

func diagnose(t *testing.T, script string, env ...string) diagnosis {
	t.Helper()
	return diagnoseWith(t, nil, script, env...)
}

// diagnoseWith is diagnose with more flags.
func diagnoseWith(t *testing.T, flags []string, script string, env ...string) diagnosis {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"doctor", "--format", "json", "--storage-root", filepath.Join(dir, "store")}, flags...)
	out, stderr, code := inSituation(t, dir, script, env, args...)
	d := diagnosis{t: t, code: code, stdout: out}
	if err := json.Unmarshal([]byte(out), &d.findings); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr)
	}
	return d
}

// inSituation runs the program in a situation.
func inSituation(t *testing.T, dir, script string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if script == "" {
		script = `exec "$@"`
	}
	unshare := []string{"--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", program}
	if !strings.Contains(script, "mount") && !strings.Contains(script, "/proc/sys") {
		unshare = nil // as the user that this is
	}
	cmd := exec.Command("unshare", append(unshare, args...)...)
	if unshare == nil {
		cmd = exec.Command("sh", append([]string{"-c", script, "sh", program}, args...)...)
	}
	cmd.Env = append(os.Environ(), "D="+dir, "S="+filepath.Join(dir, "store"))
	cmd.Env = append(cmd.Env, env...)
	var out, errors text
	cmd.Stdout, cmd.Stderr = &out, &errors
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeStore(t, filepath.Join(dir, "store")) })
	return out.String(), errors.String(), cmd.ProcessState.ExitCode()
}

// finds fails the test unless a check has this status and says the words.
func (d diagnosis) finds(check, status string, words ...string) {
	d.t.Helper()
	for _, f := range d.findings {
		if f.Check != check {
			continue
		}
		all := fmt.Sprintf("%s %s %s %s", f.Found, f.Means, f.Admin, f.User)
		for _, w := range words {
			if !strings.Contains(all, w) {
				d.t.Errorf("%s does not say %q: %s", check, w, all)
			}
		}
		if f.Status != status {
			d.t.Errorf("%s is %s (%s), want %s", check, f.Status, f.Found, status)
		}
		if f.Status != "ok" && (f.Means == "" || f.Admin == "" && f.User == "" && f.Status != "note") {
			d.t.Errorf("%s does not say what it means or what to do: %+v", check, f)
		}
		return
	}
	d.t.Errorf("there is no finding of %s in\n%s", check, d.stdout)
}

// noUserNamespaces is an ordinary user's situation where a setting forbids
// them: the process has no rights of its own.
const noUserNamespaces = `echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"`

func situations() []situation {
	noTMPDIR := 5
	if kindOfUser() == asRoot {
		noTMPDIR = 0 // which needs it for less
	}
	return []situation{
		{
			name: "user namespaces forbidden by sysctl", script: noUserNamespaces,
			check: "user-namespaces", status: "error", words: []string{"there may be no more of them (user.max_user_namespaces is 0)", "sysctl user.max_user_namespaces=15000"}, code: 5,
		},
		{
			name: "full tmpfs", script: `mkdir $S && mount -t tmpfs -o size=256k tmpfs $S && head -c 1M /dev/zero > $S/full 2>/dev/null; exec "$@"`,
			check: "store", status: "error", words: []string{"no space left", "pdibuild rm"}, code: 5,
		},
		{
			name: "small tmpfs", script: `mkdir $S && mount -t tmpfs -o size=20m tmpfs $S && exec "$@"`,
			check: "disk", status: "error", words: []string{"MiB free", "--storage-root"}, code: 5,
		},
		{
			name: "tmpfs", script: `mkdir $S && mount -t tmpfs -o size=8g,nr_inodes=1000000 tmpfs $S && exec "$@"`,
			check: "file-system", status: "warning", words: []string{"tmpfs", "gone after a restart"},
		},
		{
			name: "few inodes", script: `mkdir $S && mount -t tmpfs -o size=8g,nr_inodes=500 tmpfs $S && exec "$@"`,
			check: "inodes", status: "error", words: []string{"free at"}, code: 5,
		},
		{
			name: "no extended attributes", script: `mkdir $S && mount -t ramfs ramfs $S && exec "$@"`,
			check: "extended-attributes", status: "error", words: []string{"has none", "ext4"}, code: 5,
		},
		{
			name: "overlay on overlay", script: `mkdir $S $D/l $D/o && mount -t tmpfs tmpfs $D/o && mkdir $D/o/u $D/o/w && mount -t overlay -o lowerdir=$D/l,upperdir=$D/o/u,workdir=$D/o/w,userxattr overlay $S && exec "$@"`,
			check: "file-system", status: "note", words: []string{"overlay"},
		},
		{
			name: "layers on overlay on overlay", script: `mkdir $S $D/l $D/o && mount -t tmpfs tmpfs $D/o && mkdir $D/o/u $D/o/w && mount -t overlay -o lowerdir=$D/l,upperdir=$D/o/u,workdir=$D/o/w,userxattr overlay $S && PATH=/no/such exec "$@"`,
			check: "store", status: "warning", words: []string{"vfs", "no overlay can be used there", "full copy", "fuse-overlayfs", "mount a volume"},
		},
		{
			name: "read-only store", script: `mkdir $S && mount --bind $S $S && mount -o remount,bind,ro $S && exec "$@"`,
			check: "store", status: "error", words: []string{"read-only", "--storage-root"}, code: 5,
		},
		{
			name: "read-only home", script: `mkdir $D/home && mount --bind $D/home $D/home && mount -o remount,bind,ro $D/home && HOME=$D/home exec "$@"`,
			check: "home", status: "note", words: []string{"cannot be written to", "the image store is somewhere else", "--authfile"},
		},
		{name: "no home", script: `unset HOME; exec "$@"`, check: "home", status: "note", words: []string{"HOME is not set"}},
		{name: "no TMPDIR", env: []string{"TMPDIR=/no/such", "XDG_RUNTIME_DIR="}, check: "temporary-directory", status: "warning", words: []string{"/no/such", "set TMPDIR"}, code: noTMPDIR},
		{
			name: "full TMPDIR", script: `mkdir $D/t && mount -t tmpfs -o size=64k tmpfs $D/t && head -c 1M /dev/zero > $D/t/full 2>/dev/null; TMPDIR=$D/t exec "$@"`,
			check: "temporary-directory", status: "warning", words: []string{"no space left"},
		},
		{name: "few open files", script: `ulimit -n 200; exec "$@"`, check: "open-files", status: "warning", words: []string{"ulimit -n"}},
		{
			name: "broken policy", script: `mkdir -p $D/.config/containers && echo '{"default": 7}' > $D/.config/containers/policy.json; HOME=$D exec "$@"`,
			check: "policy", status: "error", words: []string{"policy.json"}, code: 5,
		},
		{
			name: "broken registries.conf", script: `mkdir -p $D/.config/containers && echo '][' > $D/.config/containers/registries.conf; HOME=$D exec "$@"`,
			check: "registries-conf", status: "error", words: []string{"registries.conf"}, code: 5,
		},
		{
			name: "little memory", script: `mount -t tmpfs tmpfs $D && echo "MemAvailable: 300000 kB" > $D/m && mount --bind $D/m /proc/meminfo && mkdir $S && exec "$@"`,
			check: "memory", status: "warning", words: []string{"292 MiB available", "--jobs 1"},
		},
		{name: "no git", env: []string{"PATH=/no/such"}, script: `exec "$@"`, check: "git", status: "note", words: []string{"not installed", "spack: {path: DIRECTORY}"}},
		{name: "few programs", env: []string{"PATH=/no/such"}, script: `exec "$@"`, check: "bootstrap-tool", status: "note", words: []string{"apt-get install"}},
	}
}

func TestDoctorSituations(t *testing.T) {
	t.Parallel()
	needTool(t, "unshare")
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			d := diagnose(t, s.script, s.env...)
			d.finds(s.check, s.status, s.words...)
			if d.code != s.code {
				t.Errorf("exit code %d, want %d\n%s", d.code, s.code, d.stdout)
			}
		})
	}
}

// The setting that forbids user namespaces is found, whichever it is. Not every
// kernel has every setting, so they are put over the kernel's.
func TestDoctorNamesSetting(t *testing.T) {
	t.Parallel()
	needTool(t, "unshare")
	if kindOfUser() == asRoot {
		t.Skip("SKIPPED: root needs no user namespace")
	}
	for setting, words := range map[string][]string{
		"apparmor_restrict_unprivileged_userns 1": {"kernel.apparmor_restrict_unprivileged_userns is 1", "AppArmor profile"},
		"unprivileged_userns_clone 0":             {"kernel.unprivileged_userns_clone is 0", "/etc/sysctl.d"},
	} {
		name, value, _ := strings.Cut(setting, " ")
		t.Run(name, func(t *testing.T) {
			script := `mkdir $D/k && mount -t tmpfs tmpfs $D/k && cp -r /proc/sys/kernel/. $D/k 2>/dev/null; rm -f $D/k/unprivileged_userns_clone $D/k/apparmor_restrict_unprivileged_userns; echo ` + value + ` > $D/k/` + name + ` &&
				mount --bind $D/k /proc/sys/kernel && exec setpriv --bounding-set=-all --inh-caps=-all env ` + strings.Replace(sandboxed(t, "272"), " exec ", " ", 1) // unshare(2)
			d := diagnose(t, script)
			d.finds("user-namespaces", "error", words...)
			if d.code != 5 {
				t.Errorf("exit code %d, want 5", d.code)
			}
		})
	}
}

// An old kernel is one for an ordinary user.
func TestDoctorOldKernel(t *testing.T) {
	t.Parallel()
	needTool(t, "setarch")
	status := map[string]string{asRoot: "ok", asSub: "warning", asSingle: "warning"}[kindOfUser()]
	diagnose(t, `exec setarch --uname-2.6 "$@"`).finds("kernel", status, "Linux 2.6")
}

// On this very host, where the tests build images, builds work.
func TestDoctorHere(t *testing.T) {
	t.Parallel()
	d := diagnose(t, "")
	if d.code != 0 {
		t.Errorf("exit code %d\n%s", d.code, d.stdout)
	}
	d.finds("user-namespaces", "ok")
	d.finds("isolation", map[string]string{asRoot: "ok", asSub: "ok", asSingle: "ok"}[kindOfUser()])
	if kindOfUser() == asSingle {
		d.finds("subordinate-ids", "note", "no range for", "usermod --add-subuids")
	} else {
		d.finds("subordinate-ids", "ok")
	}
}

// A user with a range whose helper programs are missing, or forbidden.
func TestDoctorSubordinateIDs(t *testing.T) {
	t.Parallel()
	if kindOfUser() != asSub {
		t.Skip("SKIPPED: this test needs a user with a range")
	}
	diagnose(t, "", "PATH=/no/such").finds("subordinate-ids", "warning", "not installed", "apt-get install uidmap")
	diagnose(t, `exec setpriv --no-new-privs "$@"`).finds("subordinate-ids", "warning", "could not map", "chmod u+s")
}

// Names of registries are shown, passwords are not, in whatever form.
func TestDoctorShowsNoCredentials(t *testing.T) {
	t.Parallel()
	secret := "pass-" + nonce()
	auth := base64.StdEncoding.EncodeToString([]byte("me:" + secret))
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths": {"registry.example.org": {"auth": "`+auth+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := diagnose(t, "", "REGISTRY_AUTH_FILE="+file)
	d.finds("credentials", "ok", "registry.example.org")
	if strings.Contains(d.stdout, secret) || strings.Contains(d.stdout, auth) {
		t.Errorf("a password is shown:\n%s", d.stdout)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	diagnose(t, "", "REGISTRY_AUTH_FILE="+file).finds("credentials", "warning", "auth.json", "podman login")
}

// Builds, runs and doctor work in surroundings that others stumble over.
func TestUnusualSurroundings(t *testing.T) {
	t.Parallel()
	helloMPI(t)
	for name, script := range map[string]string{
		"LANG=C":             `LANG=C LC_ALL=C exec "$@"`,
		"HOME unset":         `unset HOME; exec "$@"`,
		"umask 077":          `umask 077; exec "$@"`,
		"TMPDIR with spaces": `mkdir -p "$D/a b"; TMPDIR="$D/a b" exec "$@"`,
		"no environment":     `exec env -i "$@"`,
		"no standard input":  `exec "$@" <&-`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, "version: 1\nstages:\n  - {name: s, from: BASE, steps: [{copy: pdibuild.yaml, to: /f}, {run: 'echo NONCE > /f; test \"$(stat -c %a /f)\" = 644'}, {check: ls / >/dev/null && ! touch /x, user: '1234'}]}\n")
			if _, stderr, code := inSituation(t, t.TempDir(), script, nil, "build", "--storage-root", p.store, p.dir); code != 0 {
				t.Errorf("build: exit code %d\n%s", code, stderr)
			}
			out, stderr, code := inSituation(t, t.TempDir(), script, nil, "run", "--storage-root", p.store, "-v", p.dir+":/data", "hello-mpi:test", "--", "sh", "-c", "touch /data/made && echo fine")
			if code != 0 || out != "fine\n" {
				t.Errorf("run: exit code %d, output %q\n%s", code, out, stderr)
			}
			wantMine(t, filepath.Join(p.dir, "made"))
			if out, stderr, code := inSituation(t, t.TempDir(), script, nil, "doctor", "--storage-root", p.store); code != 0 {
				t.Errorf("doctor: exit code %d\n%s%s", code, out, stderr)
			}
		})
	}
}

// A sandbox such as docker's forbids system calls by a seccomp filter.
func TestDoctorSeccomp(t *testing.T) {
	t.Parallel()
	t.Run("no mounts", func(t *testing.T) {
		d := diagnose(t, sandboxed(t, "165")) // mount(2)
		d.finds("user-namespaces", "error", "make mounts private", "seccomp=unconfined")
		if d.code != 5 {
			t.Errorf("exit code %d, want 5", d.code)
		}
	})
	diagnose(t, "").finds("seccomp", "ok")
	t.Run("no seccomp", func(t *testing.T) {
		status, code := "note", 0
		if kindOfUser() != asRoot { // the filter forbids newuidmap, too
			status, code = "error", 5
		}
		d := diagnose(t, sandboxed(t, "317")) // seccomp(2)
		d.finds("file-owners", status, "cannot be emulated")
		d.finds("seccomp", "note", "a filter")
		if d.code != code {
			t.Errorf("exit code %d, want %d\n%s", d.code, code, d.stdout)
		}
	})
}

// sandboxed is a script that forbids a system call of this architecture's.
func sandboxed(t *testing.T, call string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED: this test knows the numbers of amd64's system calls only")
	}
	return sandboxEnv + "=" + call + ` exec ` + self + ` "$@"`
}

// sandboxEnv makes the test program a sandbox around another one.
const sandboxEnv = "PDIBUILD_TEST_SANDBOX"

// sandboxMain forbids one system call and runs the program.
func sandboxMain() error {
	var call uint32
	if _, err := fmt.Sscan(os.Getenv(sandboxEnv), &call); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	if err := os.Unsetenv(sandboxEnv); err != nil {
		return err
	}
	return errors.Join(errors.New("run the program"), unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
}
