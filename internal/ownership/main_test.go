package ownership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// inNamespace marks the test process that runs in a user namespace with one id.
const inNamespace = "PDIBUILD_OWNERSHIP_TEST_NAMESPACE"

// ordinaryUser is the one user that the namespace has if root runs the tests.
const ordinaryUser = 12345

// TestMain runs the tests where they matter: in a user namespace with exactly
// one user and one group id.
func TestMain(m *testing.M) {
	if InitReexec() {
		return
	}
	if len(os.Args) > 2 && os.Args[1] == goChild {
		exitWith(childMain(os.Args[2:]))
	}
	if os.Getenv(inNamespace) != "" || isFuzzing() {
		os.Exit(m.Run())
	}
	// The log of what tests read is for the go command, in a directory of its
	// own user.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile")
	})
	cmd := singleIDCommand("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "FAIL: these tests need a user namespace, which this host does not allow:", err)
		os.Exit(1)
	}
}

func childMain(args []string) error {
	switch args[0] {
	case "nested":
		return nestedMain()
	case "path-descriptor":
		return pathDescriptorMain(args[1])
	default:
		return goChildMain(args[0])
	}
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func isFuzzing() bool {
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzz") {
			return true
		}
	}
	return false
}

func singleIDCommand(name string, args ...string) *exec.Cmd {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = ordinaryUser, ordinaryUser
	}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	return cmd
}

// requireNamespace fails if the test runs where chown would just work.
func requireNamespace(t testing.TB) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Fatal("this test has to run in a user namespace with one id")
	}
}

// start makes a supervisor that is closed when the test ends.
func start(t testing.TB, options Options) *Supervisor {
	t.Helper()
	requireNamespace(t)
	s, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shell runs a script in dir under supervision and returns what it prints; it
// must succeed.
func shell(t testing.TB, s *Supervisor, dir, script string) string {
	t.Helper()
	out, err := tryShell(s, dir, script)
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return out
}

func tryShell(s *Supervisor, dir, script string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "sh", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.Run(cmd)
	return out.String(), err
}

// recorded is the owner that the supervisor and the package know for a file
// below dir, "" if none.
func recorded(t testing.TB, s *Supervisor, dir, name string) string {
	t.Helper()
	uid, gid, ok, err := s.Owner(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", uid, gid)
}

// need skips the test loudly if a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, NOT TESTED: %s is not installed", program)
		}
	}
}
