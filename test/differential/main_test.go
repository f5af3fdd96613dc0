//go:build integration

package differential

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus" //nolint:depguard // Buildah, the judge, logs to it
	"go.podman.io/buildah"
	"golang.org/x/sys/unix"
)

var (
	seed     = flag.Uint64("seed", 1, "the first scenario has this `number`")
	count    = flag.Int("count", 200, "how many scenarios are built")
	jobs     = flag.Int("jobs", 2, "how many are built side by side")
	every    = flag.Int("every", 10, "each `n`-th scenario is also built as other users, with other drivers, and from the Containerfile that the program prints; 0 for none")
	judged   = flag.Bool("judge", true, "compare with Buildah")
	tries    = flag.Int("tries", 80, "how many builds make a scenario with a difference smaller")
	verbose  = flag.Bool("verbose", false, "print why both refused")
	failures = flag.Int("failures", 5, "the run ends after so many different scenarios")
)

// program is the pdibuild under test.
var program string

// insideVariable is set where the namespace has been made.
const insideVariable = "PDIBUILD_DIFFERENTIAL_INSIDE"

func TestMain(m *testing.M) {
	if buildah.InitReexec() {
		return
	}
	flag.Parse()
	logrus.SetLevel(logrus.PanicLevel)
	path, err := filepath.Abs(os.Getenv("PDIBUILD_BIN"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential: set PDIBUILD_BIN to the program:", err)
		os.Exit(1)
	}
	program = path
	if os.Getuid() == 0 && os.Getenv(insideVariable) == "" {
		os.Exit(runInside())
	}
	os.Exit(m.Run())
}

// runInside runs this program again in a mount namespace of its own, where
// stores are in memory and the users of the test exist. All of it goes away
// with the process.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "differential: make a mount namespace:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// accounts are the lines of /etc/passwd and so on for the users.
var accounts = map[string]string{
	"/etc/passwd": fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\n%s:x:%d:%[2]d::/:/bin/sh\n%s:x:%d:%[4]d::/:/bin/sh\n", sub.name, sub.uid, single.name, single.uid),
	"/etc/group":  fmt.Sprintf("root:x:0:\n%s:x:%d:\n%s:x:%d:\n", sub.name, sub.uid, single.name, single.uid),
	"/etc/subuid": fmt.Sprintf("%s:2000000000:65536\n", sub.name),
	"/etc/subgid": fmt.Sprintf("%s:2000000000:65536\n", sub.name),
}

// prepare makes the workplace of a run: a directory in memory, unless users
// cannot have extended attributes there (before Linux 6.6).
func prepare(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: the differential test is run by root, and builds as other users by itself")
	}
	dir := t.TempDir()
	must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("differential", dir, "tmpfs", 0, "mode=755,size=50%"))
	if err := unix.Setxattr(dir, "user.differential", []byte("x"), 0); err != nil {
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
	} else {
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp")) // Buildah's
	t.Setenv("GOGC", "off")                       // for the short processes of Buildah
	for name, text := range accounts {
		mine := filepath.Join(dir, filepath.Base(name))
		must(t, os.WriteFile(mine, []byte(text), 0o644))
		if _, err := os.Stat(name); err != nil {
			t.Skipf("SKIPPED: this host has no %s; install the package uidmap", name)
		}
		must(t, unix.Mount(mine, name, "", unix.MS_BIND, ""))
	}
	copyProgram(t, dir)
	return dir
}

// copyProgram puts the program where every user may run it.
func copyProgram(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(program)
	must(t, err)
	program = filepath.Join(dir, "pdibuild")
	must(t, os.WriteFile(program, data, 0o755))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
