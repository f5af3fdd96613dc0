//go:build integration

package integration

import (
	"archive/tar"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed testdata/reach/reach.c
var reachSource string

var attempt = regexp.MustCompile(`(?m)^(?:[a-z]+ \| )?([^:\n]+): (REACHED|stopped .*)$`)

// A step that tries to reach the host is stopped, in every isolation mode and
// for every kind of user; docs/isolation.md has the table. What it does reach
// is the network, which a step has unless it says otherwise.
func TestStepCannotReachHost(t *testing.T) { // not in parallel: every process that is started gets a descriptor
	archive := reachArchive(t)
	secrets := newHostSecrets(t)
	root, err := unix.Open("/", unix.O_PATH, 0) // without CLOEXEC: what a careless shell leaves open
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for _, isolation := range []string{"chroot", "oci"} {
		for _, network := range []string{"host", "none"} {
			t.Run(isolation+", network "+network, func(t *testing.T) {
				if isolation == "oci" && !hasRuntime() {
					t.Skip("SKIPPED: neither crun nor runc is installed")
				}
				p := newProject(t, fmt.Sprintf(`version: 1
stages:
  - name: final
    from: docker-archive:%s
    steps:
      - run: %s
        network: %s
        env: {FRESH: "NONCE"}
`, archive, jsonWords(t, append([]string{"/reach"}, secrets.words()...)), network))
				o := p.build("--isolation", isolation)
				if o.code == 5 && isolation == "oci" {
					t.Skipf("SKIPPED: no OCI runtime works here: %s", o.stderr)
				}
				o.ok()
				checkReached(t, o.stderr, network)
			})
		}
	}
	t.Run("shell", func(t *testing.T) {
		p := newProject(t, "version: 1\nname: localhost/reach\nstages: [{name: final, from: 'docker-archive:"+archive+"'}]\n")
		p.build("--tag", p.nonce).ok()
		o := p.in("shell", append([]string{"localhost/reach:" + p.nonce, "--", "/reach"}, secrets.words()...)...)
		checkReached(t, o.stdout, "host")
	})
}

// jsonWords is a list as a recipe takes it.
func jsonWords(t *testing.T, words []string) string {
	t.Helper()
	data, err := json.Marshal(words)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkReached compares what the program has printed with docs/isolation.md.
func checkReached(t *testing.T, output, network string) {
	t.Helper()
	reached, tried := reachedBy(output)
	want := []string{"abstract socket", "127.0.0.1"}
	if network == "none" {
		want = nil
	}
	if !slices.Equal(reached, want) {
		t.Errorf("the command has reached %q, want %q\n%s", reached, want, output)
	}
	if tried < 38 {
		t.Errorf("%d attempts are seen, want all\n%s", tried, output)
	}
}

// Steps are filtered, and keep what podman's containers keep: nested user
// namespaces and debuggers.
func TestStepFilter(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"chroot", "oci"} {
		t.Run(isolation, func(t *testing.T) {
			p := newProject(t, `version: 1
stages:
  - name: final
    from: BASE
    steps:
      - run: |
          : NONCE
          grep -q '^Seccomp:.*2$' /proc/self/status && echo FILTERED
          unshare --user --map-root-user id -u | sed s/^/NESTED/
          su nobody -s /bin/sh -c 'echo SUID $(id -u)' || true
`)
			o := p.build("--isolation", isolation)
			if o.code == 5 && isolation == "oci" {
				t.Skipf("SKIPPED: no OCI runtime works here: %s", o.stderr)
			}
			o.ok().says("FILTERED", "NESTED0")
		})
	}
}

func reachedBy(output string) (reached []string, tried int) {
	for _, m := range attempt.FindAllStringSubmatch(output, -1) {
		tried++
		if m[2] == "REACHED" {
			reached = append(reached, m[1])
		}
	}
	return reached, tried
}

func hasRuntime() bool {
	for _, name := range []string{"crun", "runc"} {
		for _, dir := range []string{"", "/usr/sbin/", "/usr/bin/"} {
			if _, err := exec.LookPath(dir + name); err == nil {
				return true
			}
		}
	}
	return false
}

// hostSecrets are what a step could get from the host.
type hostSecrets struct {
	marker, socket, key, posixQueue string
	shm, queue, port                int
}

// words are the arguments of the program.
func (h *hostSecrets) words() []string {
	words := []string{h.marker, h.socket, strconv.Itoa(os.Getpid()), h.key}
	return append(words, strconv.Itoa(h.shm), strconv.Itoa(h.queue), h.posixQueue, strconv.Itoa(h.port))
}

func newHostSecrets(t *testing.T) *hostSecrets {
	t.Helper()
	h := &hostSecrets{marker: filepath.Join(t.TempDir(), "marker"), socket: "pdibuild-" + nonce(), key: "pdibuild-" + nonce()}
	if err := os.WriteFile(h.marker, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.listen(t)
	h.makeQueues(t)
	for _, ring := range h.keyrings(t) {
		id, err := unix.AddKey("user", h.key, []byte("secret"), ring)
		if err != nil {
			t.Logf("no key is made in keyring %d, the attempt to read one tells nothing: %v", ring, err)
			continue
		}
		t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, ring, 0, 0) })
	}
	return h
}

func (h *hostSecrets) listen(t *testing.T) {
	t.Helper()
	abstract, err1 := net.Listen("unix", "@"+h.socket)
	loopback, err2 := net.Listen("tcp4", "127.0.0.1:0")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = abstract.Close(), loopback.Close() })
	h.port = loopback.Addr().(*net.TCPAddr).Port
}

// makeQueues makes what an IPC namespace is to hide.
func (h *hostSecrets) makeQueues(t *testing.T) {
	t.Helper()
	var err error
	if h.shm, err = unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(h.shm, unix.IPC_RMID, nil) })
	queue, _, errno := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE, unix.IPC_CREAT|0o600, 0)
	if errno != 0 {
		t.Fatal(os.NewSyscallError("msgget", errno))
	}
	h.queue = int(queue)
	t.Cleanup(func() { _, _, _ = unix.Syscall(unix.SYS_MSGCTL, queue, unix.IPC_RMID, 0) })
	h.posixQueue = "/" + h.socket
	name, err := unix.BytePtrFromString(h.socket) // the kernel wants no slash
	if err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDWR|unix.O_CREAT, 0o600, 0, 0, 0)
	if errno != 0 {
		t.Logf("no POSIX message queue is made, the attempt to open one tells nothing: %v", errno)
		return
	}
	_ = unix.Close(int(fd))
	t.Cleanup(func() { _, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0) })
}

// keyrings are those in which a user has keys: the session's, the user's, the
// user's session's and the persistent one.
func (h *hostSecrets) keyrings(t *testing.T) []int {
	t.Helper()
	rings := []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING}
	// It can be used as long as it is in the session's.
	persistent, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, -1, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	if err != nil {
		t.Logf("this host has no persistent keyrings: %v", err)
		return rings
	}
	t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, persistent, unix.KEY_SPEC_SESSION_KEYRING, 0, 0) })
	return append(rings, persistent)
}

// reachArchive is an image with the program and with a device node.
func reachArchive(t *testing.T) string {
	t.Helper()
	entries := []archiveEntry{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}},
		staticProgram(t, "reach", reachSource),
	}
	if kindOfUser() == asRoot { // others can't unpack one
		entries = append(entries, archiveEntry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "device", Mode: 0o666, Devmajor: 1, Devminor: 3}})
	}
	return dockerArchive(t, entries)
}

// staticProgram compiles a program that needs no other files.
func staticProgram(t *testing.T, name, source string) archiveEntry {
	t.Helper()
	needTool(t, "gcc")
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file+".c", []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O1", "-static", "-o", file, file+".c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return archiveEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, content: program}
}

type archiveEntry struct {
	tar.Header
	content []byte
}

// dockerArchive writes an image of one layer, with nothing left out or put
// right, and returns its file.
func dockerArchive(t *testing.T, entries []archiveEntry) string {
	t.Helper()
	layer := tarOf(t, entries)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sha256Hex(string(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "Layers": []string{"layer.tar"}, "RepoTags": []string{"localhost/made:test"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	data := tarOf(t, []archiveEntry{
		{tar.Header{Typeflag: tar.TypeReg, Name: "config.json", Mode: 0o644}, config},
		{tar.Header{Typeflag: tar.TypeReg, Name: "layer.tar", Mode: 0o644}, layer},
		{tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644}, manifest},
	})
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func tarOf(t *testing.T, entries []archiveEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// In a container whose /proc has hidden parts, the kernel lets nobody mount
// another one, so a step shares that container's processes: it sees them, but
// neither their files nor their memory, and pdibuild says so.
func TestWithoutProcessNamespace(t *testing.T) {
	t.Parallel()
	needTool(t, "unshare")
	needTool(t, "bash")
	needTool(t, "busybox")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	const look = `P=$(/busybox grep -al sleepe[r]-NONCE /proc/[0-9]*/cmdline | /busybox grep -v self | /busybox head -n 1 | /busybox cut -d/ -f3); echo "sees $(/busybox tr "\\0" " " < /proc/$P/cmdline)"; ` +
		`kill -0 $P && echo "may signal"; /busybox cat /proc/$P/environ >/dev/null 2>&1 && echo "reads memory"; /busybox ls /proc/$P/root/ >/dev/null 2>&1 && echo "uses its root"; /busybox readlink /proc/$P/fd/0 >/dev/null 2>&1 && echo "sees its files"; echo looked`
	p := newProject(t, "version: 1\nstages:\n  - name: s\n    from: scratch\n    steps:\n      - {copy: busybox, to: /busybox, mode: '0755'}\n      - run: [/busybox, sh, -c, '"+look+"']\n")
	p.write("busybox", string(data))
	dir := t.TempDir()
	// A process namespace of its own is around all of this: nothing of the host
	// can be seen, let alone signalled.
	// What hides a part of /proc counts once a user namespace below has got it.
	script := `exec unshare --pid --fork --kill-child --mount-proc sh -c 'mount --bind /dev/null /proc/interrupts && exec unshare --user --map-root-user --mount "$@"' sh \
		bash -c 'bash -c "exec -a sleeper-` + p.nonce + ` sleep 300" & sleep 0.3; "$@"' bash "$@" # mount`
	out, stderr, code := inSituation(t, dir, script, nil, "build", "-v", "--progress", "plain", "--storage-root", filepath.Join(dir, "store"), p.dir)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, stderr)
	}
	for _, want := range []string{"without a process namespace", "sees sleeper-" + p.nonce, "may signal", "looked"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the build does not say %q:\n%s", want, stderr)
		}
	}
	for _, reached := range []string{"reads memory", "uses its root", "sees its files"} {
		if strings.Contains(stderr, "s | "+reached) {
			t.Errorf("a step %s of a process around it:\n%s", reached, stderr)
		}
	}
}
