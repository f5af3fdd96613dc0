//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// in runs a command in a container of the project's store. Verb is run or
// shell, with its flags.
func (p *project) in(verb string, args ...string) outcome {
	p.t.Helper()
	return p.run(append([]string{verb, "--storage-root", p.store}, args...)...)
}

// prints fails the test unless the command has succeeded and printed text.
func (o outcome) prints(text string) {
	o.t.Helper()
	if o.code != 0 || o.stdout != text {
		o.t.Fatalf("exit code %d and output %q, want 0 and %q\n%s", o.code, o.stdout, text, o.stderr)
	}
}

// Whoever the container's user is, what two MPI ranks write to a volume belongs
// to the person who ran them, who can remove it.
func TestRunMPIWritesToVolume(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	for _, user := range []string{"", "root", "1234:5678", "1987654321", "5000:0"} {
		t.Run("user "+user, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"-v", dir + ":/data", "-w", "/data"}
			if user != "" {
				args = append(args, "--user", user)
			}
			script := `id -u > "rank-$OMPI_COMM_WORLD_RANK" && mkdir "dir-$OMPI_COMM_WORLD_RANK"`
			o := p.in("run", append(args, "hello-mpi:test", "--", "mpirun", "-n", "2", "sh", "-c", script)...)
			o.prints("")
			want := map[string]string{"": "1001", "root": "0"}[user]
			if want == "" {
				want, _, _ = strings.Cut(user, ":")
			}
			for _, rank := range []string{"0", "1"} {
				data, err := os.ReadFile(filepath.Join(dir, "rank-"+rank))
				if err != nil || string(data) != want+"\n" {
					t.Errorf("rank %s wrote %q (%v), want its uid %s", rank, data, err, want)
				}
				for _, name := range []string{"rank-" + rank, "dir-" + rank} {
					wantMine(t, filepath.Join(dir, name))
				}
			}
		})
	}
	noWorkIsLeft(t, p.store)
}

func wantMine(t *testing.T, path string) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, os.Getuid(), os.Getgid())
	}
}

// A user of the image keeps its home, also where a volume makes it necessary
// to change ids.
func TestRunHomeBelongsToUser(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	const script = `touch /opt/pdi/file && stat -c %u /opt/pdi && whoami && echo "$HOME"`
	want := "1001\npdi\n/opt/pdi\n"
	p.in("run", "-v", t.TempDir()+":/data", "hello-mpi:test", "sh", "-c", script).prints(want)
}

func TestRunFlags(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "FROM_HOST=yes", "http_proxy=http://proxy.example:3128")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"environment", []string{"-e", "A=b c", "-e", "FROM_HOST", "-e", "NOT_THERE", "hello-mpi:test", "sh", "-c", `echo "$A|$FROM_HOST|${NOT_THERE-unset}|$http_proxy"`}, "b c|yes|unset|http://proxy.example:3128\n"},
		{"no proxy", []string{"--http-proxy=false", "hello-mpi:test", "sh", "-c", `echo "${http_proxy-unset}"`}, "unset\n"},
		{"entrypoint", []string{"--entrypoint", "/bin/echo", "hello-mpi:test", "a", "b"}, "a b\n"},
		{"entrypoint as a list", []string{"--entrypoint", `["/bin/echo", "x"]`, "hello-mpi:test", "a"}, "x a\n"},
		{"no entrypoint", []string{"--entrypoint", "", "hello-mpi:test", "--", "sh", "-c", `echo "${OMPI_ALLOW_RUN_AS_ROOT-none}"`}, "none\n"},
		{"flags of the command", []string{"hello-mpi:test", "echo", "-v", "--rm"}, "-v --rm\n"},
		{"read-only volume", []string{"--rm", "-v", dir + ":/data:ro", "hello-mpi:test", "sh", "-c", "cat /data/file; touch /data/x 2>/dev/null || echo refused"}, "host\nrefused\n"},
		{"one file", []string{"-v", dir + "/file:/etc/motd", "hello-mpi:test", "cat", "/etc/motd"}, "host\n"},
		{"workdir", []string{"-w", "/usr", "hello-mpi:test", "pwd"}, "/usr\n"},
		{"no network", []string{"--network=none", "hello-mpi:test", "sh", "-c", "sed 1,2d /proc/net/dev | grep -cv lo: || true"}, "0\n"},
		{"user by number", []string{"-u", "4321", "hello-mpi:test", "sh", "-c", "id -u; whoami"}, "4321\nuser\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.in("run", test.args...).prints(test.want)
		})
	}
}

// The exit code is the command's; without a command it says why.
func TestRunExitCodes(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	image := "hello-mpi:test"
	tests := []struct {
		name  string
		code  int
		args  []string
		words []string
	}{
		{"the command's", 7, []string{image, "sh", "-c", "exit 7"}, nil},
		{"a signal", 128 + 9, []string{image, "sh", "-c", "kill -9 $$"}, nil},
		{"not found", 127, []string{"--entrypoint", "nosuch", image}, []string{"command not found: nosuch", "hint:"}},
		{"not executable", 126, []string{"--entrypoint", "/etc/passwd", image}, []string{"permission denied"}},
		{"no image", 2, nil, []string{"needs an IMAGE", "pdibuild images"}},
		{"unknown image", 2, []string{"--pull=never", "nosuch"}, []string{"image nosuch", "pdibuild images"}},
		{"no such directory", 2, []string{"-v", "/no/such/dir:/data", image}, []string{"volume /no/such/dir", "no such file or directory on this host", "mkdir -p"}},
		{"a volume's name", 2, []string{"-v", "data:/data", image}, []string{"./data"}},
		{"a relative target", 2, []string{"-v", "/tmp:data", image}, []string{`TARGET "data"`}},
		{"no such workdir", 2, []string{"-w", "/nowhere", image}, []string{"working directory /nowhere", "-v DIR:/nowhere"}},
		{"no such user", 2, []string{"-u", "nobody2", image}, []string{`no user "nobody2"`}},
		{"--rm=false", 2, []string{"--rm=false", image}, []string{"-v DIR:/data"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.in("run", test.args...).fails(test.code, test.words...)
		})
	}
	noWorkIsLeft(t, p.store)
}

// An image without a command needs one.
func TestRunNeedsCommand(t *testing.T) {
	t.Parallel()
	p := newProject(t, "version: 1\nname: localhost/nothing-NONCE\nstages:\n  - {name: s, from: scratch, steps: [{file: /x, content: y}]}\n")
	p.build("--tag", "test").ok()
	p.in("run", "localhost/nothing-"+p.nonce+":test").fails(2, "neither the command line nor the image names one", "pdibuild run IMAGE -- COMMAND")
	p.in("shell", "localhost/nothing-"+p.nonce+":test").fails(2, "no shell", "--entrypoint")
}

// Signals reach the command, which may end in its own way.
func TestRunPassesSignals(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT} {
		for _, group := range []bool{false, true} {
			script := `for s in TERM INT HUP USR1 QUIT; do trap "echo got \$s; n=\$((n+1))" $s; done; n=0; echo READY >&2; while [ $n = 0 ]; do sleep 0.1; done; sleep 0.5; echo n=$n; exit 5`
			s := p.startIn(script)
			s.signal(sig, group)
			if code := s.end(); code != 5 {
				t.Errorf("%v, group %v: exit code %d, want the command's 5\n%s", sig, group, code, s.stderr.String())
			}
			if !strings.Contains(s.stdout.String(), "n=1\n") {
				t.Errorf("%v, group %v: the command did not get the signal once: %q", sig, group, s.stdout.String())
			}
		}
	}
	noWorkIsLeft(t, p.store)
}

// Nothing stays when the program is killed: neither the command nor its files.
func TestRunIsKilled(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	seconds := ownSeconds()
	s := p.startIn("echo READY >&2; exec sleep " + seconds)
	s.signal(syscall.SIGKILL, false)
	s.end()
	eventually(t, "the command has ended", func() bool { return sleeping(seconds) == 0 })
	p.in("run", "hello-mpi:test", "true").prints("") // clears up
	noWorkIsLeft(t, p.store)
}

// startIn starts a shell script in a container and waits until it has said
// READY.
func (p *project) startIn(script string) *started {
	p.t.Helper()
	return p.startCommand("run", "--storage-root", p.store, "--entrypoint", "", "hello-mpi:test", "sh", "-c", script)
}

// startCommand starts the program and waits until a command in a container has
// said READY.
func (p *project) startCommand(args ...string) *started {
	p.t.Helper()
	return p.startUntil("READY\n", args...)
}

// An image that the store does not have is fetched, from a file or a registry,
// unless that is forbidden.
func TestRunFetchesImage(t *testing.T) {
	t.Parallel()
	p := helloMPI(t)
	archive := "oci-archive:" + filepath.Join(t.TempDir(), "image.tar")
	if o := p.in("export", "--compression", "none", "hello-mpi:test", archive); o.code != 0 {
		t.Fatalf("export: exit code %d\n%s", o.code, o.stderr)
	}
	p.freshStore()
	p.in("run", archive, "sh", "-c", "whoami").prints("pdi\n")
	noWorkIsLeft(t, p.store)
	p.in("run", "--pull=never", "127.0.0.1:1/group/image:1").fails(2, "the store has none of that name", "pdibuild images")
	p.in("run", "--tls-verify=false", "127.0.0.1:1/group/image:1").fails(7, "the store has no image of that name", "127.0.0.1:1")
}

// Where the ids of a volume cannot be mapped, root is told whose its files will
// be.
func TestRunVolumeWithoutMapping(t *testing.T) {
	t.Parallel()
	if kindOfUser() != asRoot {
		t.Skip("SKIPPED: only root maps the ids of volumes")
	}
	p := helloMPI(t)
	dir := t.TempDir()
	if err := syscall.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Skipf("SKIPPED: this test needs a file system that cannot map ids: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	o := p.in("run", "-v", dir+":/data", "hello-mpi:test", "touch", "/data/file")
	o.prints("")
	o.says("volume "+dir, "belongs to uid 1001", "--user root")
	info, err := os.Stat(filepath.Join(dir, "file"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 1001 {
		t.Errorf("the file: %+v, %v", info, err)
	}
}
