package ownership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// goChild is argv[1] of this test program as a supervised Go program.
const goChild = "ownership-test-go-child"

// goChildMain gives files to many owners from many threads and looks at them.
func goChildMain(dir string) error {
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() {
			runtime.LockOSThread() // and let the thread end: more are made
			errs[i] = goChildFiles(dir, i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func goChildFiles(dir string, worker int) error {
	for j := range 20 {
		path := filepath.Join(dir, fmt.Sprintf("%d-%d", worker, j))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, worker+1, j+1); err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != worker+1 || int(st.Gid) != j+1 {
			return fmt.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
	}
	return exec.CommandContext(context.Background(), "true").Run()
}

func TestGoProgram(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", goChild, dir)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the program works without supervision: %s", out)
	}
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe", goChild, dir)
	cmd.Stderr = os.Stderr
	if err := s.Run(cmd); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, s, dir, "31-19"); got != "32:20" {
		t.Errorf("recorded owner %q, want 32:20", got)
	}
}

func TestParallelShells(t *testing.T) {
	const shells, files = 8, 50
	s, dir := start(t, Options{}), t.TempDir()
	shell(t, s, dir, fmt.Sprintf(`
		for i in $(seq %d); do (
			mkdir $i; cd $i
			for j in $(seq %d); do : >$j; chown $i:$j $j; done
		) & done; wait`, shells, files))
	for i := 1; i <= shells; i++ {
		for j := 1; j <= files; j++ {
			if got, want := recorded(t, s, dir, fmt.Sprintf("%d/%d", i, j)), fmt.Sprintf("%d:%d", i, j); got != want {
				t.Fatalf("owner of %s is %q", want, got)
			}
		}
	}
}

func TestSeveralCommandsAtOnce(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if out, err := tryShell(s, dir, fmt.Sprintf(`touch %[1]d; chown 9:%[1]d %[1]d; stat -c %%g %[1]d`, i)); err != nil || out != fmt.Sprintln(i) {
				t.Errorf("command %d: %v %q", i, err, out)
			}
		})
	}
	wg.Wait()
}

// Everything about a command but its supervision is the caller's: it prints the
// same without, also how many descriptors are open.
func TestCommandIsTheCallers(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	var printed [2]string
	for i, run := range []func(*exec.Cmd) error{(*exec.Cmd).Run, s.Run} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `
			echo "$0 $A $1 $(pwd) $(ulimit -n)"; cat; echo extra >&3; ls /proc/self/fd | wc -l; grep ^Sig[BIC] /proc/self/status; exit 7`,
			"one", "two words")
		cmd.Args[0] = "a name"
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.ExtraFiles = []string{"A=b", "PATH=/usr/bin:/bin"}, dir, strings.NewReader("input\n"), []*os.File{write}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var out strings.Builder
		cmd.Stdout = &out
		err = run(cmd)
		write.Close()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("error is %v, want exit status 7", err)
		}
		extra, _ := io.ReadAll(read)
		read.Close()
		printed[i] = out.String() + string(extra)
	}
	if printed[0] != printed[1] || !strings.HasPrefix(printed[1], "one b two words "+dir) || !strings.HasSuffix(printed[1], "extra\n") {
		t.Errorf("supervised:\n%s\notherwise:\n%s", printed[1], printed[0])
	}
}

func TestParentDeathSignal(t *testing.T) {
	need(t, "setpriv")
	s := start(t, Options{})
	for range 10 {
		cmd := exec.CommandContext(t.Context(), "setpriv", "--dump")
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGUSR2}
		if out, err := runOutput(s, cmd); err != nil || !strings.Contains(out, "Parent death signal: USR2") {
			t.Fatalf("%v %s", err, out)
		}
	}
}

func TestCommandThatCannotRun(t *testing.T) {
	s := start(t, Options{})
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{script, "/no/such/program", "no-such-program"} {
		err := s.Run(exec.CommandContext(t.Context(), name))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Run(%s) = %v, want an error that names it", name, err)
		}
	}
	if err := s.Run(&exec.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Chroot: "/"}}); err == nil {
		t.Error("Run with Chroot succeeds")
	}
}

func TestSupervisionCannotBeNested(t *testing.T) {
	s := start(t, Options{})
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", goChild, "nested")
	out, err := runOutput(s, cmd)
	if err == nil || !strings.Contains(out, "cannot be nested") {
		t.Errorf("nested supervision: %v %q, want a message that says it can't be", err, out)
	}
}

func runOutput(s *Supervisor, cmd *exec.Cmd) (string, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.Run(cmd)
	return out.String(), err
}

func TestPrepareAndWait(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `(sleep 0.3; touch late; chown 3:4 late) >/dev/null 2>&1 & exit 0`)
	cmd.Dir = dir
	if err := s.Prepare(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil { // for the process in the background
		t.Fatal(err)
	}
	if got := recorded(t, s, dir, "late"); got != "3:4" {
		t.Errorf("owner %q, want 3:4", got)
	}
	cmd = exec.CommandContext(t.Context(), "/no/such/program")
	if err := s.Prepare(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err == nil {
		t.Fatal("a program that does not exist runs")
	}
	if err := s.Wait(); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("Wait() = %v, want the reason", err)
	}
}

func TestKilledProcesses(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+5*i)*time.Millisecond)
		cmd := exec.CommandContext(ctx, "sh", "-c", `touch f; for i in 1 2 3 4; do (while :; do chown 3:4 f; chown 5:6 f; done) & done; wait`)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		if err := s.Run(cmd); err == nil {
			t.Fatal("the endless command ends")
		}
		cancel()
	}
	if got := strings.TrimSpace(shell(t, s, dir, `chown 7:8 f; stat -c %u:%g f`)); got != "7:8" {
		t.Errorf("after kills: %q", got)
	}
}

// Processes that outlive the supervisor get an error; they do not hang.
func TestProcessOutlivesSupervisor(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `touch f; echo ready; read go; chown 3:4 f 2>&1; echo done`)
	cmd.Dir = dir
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := s.Prepare(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := stdout.Read(line); err != nil || string(line) != "ready\n" {
		t.Fatalf("%v %q", err, line)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(stdin, "go")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("the process hangs")
	}
}

func TestNothingIsLeft(t *testing.T) {
	requireNamespace(t)
	dir := t.TempDir()
	once := func() {
		s, err := Start(Options{})
		if err != nil {
			t.Fatal(err)
		}
		shell(t, s, dir, `touch f; chown 3:4 f & chown 3:5 f & wait; ls -l`)
		_ = s.Run(exec.CommandContext(t.Context(), "/no/such/program"))
		if err := errors.Join(s.Wait(), s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(exec.CommandContext(t.Context(), "true")); err == nil {
			t.Error("a closed supervisor runs commands")
		}
	}
	once()
	routines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for range 20 {
		once()
	}
	if got := openDescriptors(t); got > descriptors {
		t.Errorf("%d open descriptors, %d before", got, descriptors)
	}
	deadline := time.Now().Add(5 * time.Second) // a goroutine ends a little after it is done
	for runtime.NumGoroutine() > routines {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), routines)
		}
		time.Sleep(time.Millisecond)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRefused(t *testing.T) {
	need(t, "setpriv")
	const script = `setpriv --reuid 42 true || :; setpriv --regid 0 --keep-groups true; setpriv --groups 5,6 true || :; chown 1:1 .`
	s := start(t, Options{})
	if _, err := tryShell(s, t.TempDir(), script); err != nil {
		t.Fatal(err)
	}
	want := []string{"setpriv: setresuid(42, -1, -1)", "setpriv: setgroups(5, 6)"}
	got := s.Refused()
	if len(got) == 0 || !strings.HasPrefix(got[0], "setpriv: setresuid(42, ") || !slices.Contains(got, want[1]) || len(got) != 2 {
		t.Errorf("Refused() = %q, want %q", got, want)
	}
	if out, err := tryShell(s, t.TempDir(), `setpriv --reuid 42 true`); err == nil {
		t.Errorf("setresuid(42) succeeds: %s", out)
	}
	fake := start(t, Options{FakeSetID: true})
	shell(t, fake, t.TempDir(), `setpriv --reuid 42 --regid 43 --clear-groups true; setpriv --reuid 42 --regid 43 --groups 5 true`)
	if len(fake.Refused()) == 0 {
		t.Error("what is faked is not told")
	}
}

// A process in its own root directory, mount and process-id namespace.
func TestChroot(t *testing.T) {
	need(t, "unshare", "ldd", "chroot")
	s, dir := start(t, Options{}), t.TempDir()
	root := smallRoot(t, dir)
	got := shell(t, s, dir, `
		unshare --mount --pid --fork sh -euc '
			mount -t proc proc root/proc
			exec chroot root /bin/sh -euc "
				cd /data; touch f g h; ln -s /data/g abs; ln -s ../../../../data/h up; mkdir -p a/b
				chown 3:4 f; chown 5:6 abs; chown -h 7:8 abs; chown 9:10 up
				cd a/b; chown 11:12 ../../../../../../data/a; exec 5<../../f; chown 3:5 /proc/self/fd/5
				stat -c %n:%u:%g /data/f /data/g /data/h /data/abs /data/a; stat -Lc %u:%g /data/abs /proc/self/fd/5
			"'`)
	want := "/data/f:3:5\n/data/g:5:6\n/data/h:9:10\n/data/abs:7:8\n/data/a:11:12\n5:6\n3:5\n"
	if got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	for name, want := range map[string]string{"f": "3:5", "g": "5:6", "h": "9:10", "abs": "7:8", "a": "11:12"} {
		if got := recorded(t, s, root+"/data", name); got != want {
			t.Errorf("owner of %s is %q, want %q", name, got, want)
		}
	}
	if _, err := os.Lstat("/data/f"); err == nil {
		t.Error("the test is no good: the host has /data/f")
	}
}

// smallRoot makes a root directory with a shell and what the test needs.
func smallRoot(t *testing.T, dir string) string {
	t.Helper()
	root := filepath.Join(dir, "root")
	script := `mkdir -p root/bin root/data root/proc
		for p in sh touch ln mkdir chown stat; do
			file=$(command -v $p); cp -L "$file" root/bin/
			ldd "$file" | grep -o "/[^ ]*" | while read lib; do mkdir -p "root$(dirname "$lib")"; cp -L "$lib" "root$lib"; done
		done`
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return root
}

// The command may be the first process of a process-id namespace.
func TestNewProcessNamespace(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", `echo $$; touch f; chown 3:4 f; exec 5<f; chown 3:5 /proc/self/fd/5; stat -c %u:%g f`)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if out, err := runOutput(s, cmd); err != nil || out != "1\n3:5\n" {
		t.Errorf("%v, printed %q", err, out)
	}
}

// Descriptors opened with O_PATH: fchown refuses them, fchownat does not.
func TestPathDescriptors(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	if out, err := runOutput(s, exec.CommandContext(t.Context(), "/proc/self/exe", goChild, "path-descriptor", dir)); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if got := recorded(t, s, dir, "l"); got != "3:4" {
		t.Errorf("owner of the link is %q, want 3:4", got)
	}
}

func pathDescriptorMain(dir string) error {
	link := filepath.Join(dir, "l")
	if err := os.Symlink("x", link); err != nil {
		return err
	}
	fd, err := unix.Open(link, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, 3, 4); !errors.Is(err, unix.EBADF) {
		return fmt.Errorf("fchown of an O_PATH descriptor: %v, want %v", err, unix.EBADF)
	}
	if err := unix.Fchownat(fd, "", 3, 4, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != 3 || st.Gid != 4 || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return fmt.Errorf("fstat: %v %+v", err, st)
	}
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, link, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &stx); err != nil || stx.Uid != 3 || stx.Gid != 4 || stx.Ino != st.Ino {
		return fmt.Errorf("statx: %v %+v", err, stx)
	}
	if err := unix.Fchownat(fd, "", 3, 4, 0x8000); !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("fchownat with unknown flags: %v", err)
	}
	return nil
}

func nestedMain() error {
	s, err := Start(Options{})
	if err != nil {
		return err
	}
	return s.Run(exec.CommandContext(context.Background(), "true"))
}

// An answer that has to wait for another call does not stop the other call
// from being answered.
func TestSlowAnswerHoldsNobodyUp(t *testing.T) {
	s, dir := start(t, Options{}), t.TempDir()
	other := make(chan struct{})
	s.handlers[unix.SYS_FCHOWNAT] = func(s *Supervisor, c *call) verdict {
		if c.args[4]&unix.AT_SYMLINK_NOFOLLOW == 0 {
			close(other)
			return handleFchownat(s, c)
		}
		select {
		case <-other:
			return handleFchownat(s, c)
		case <-time.After(10 * time.Second):
			return failure(unix.EDEADLK)
		}
	}
	if out := shell(t, s, dir, `ln -s f l; touch f; chown -h 3:4 l & sleep 0.1; chown 3:4 f; wait $!; stat -c %u:%g f l`); out != "3:4\n3:4\n" {
		t.Errorf("printed %q", out)
	}
}

// A program is told the groups that it is meant to have, and no others.
func TestGroups(t *testing.T) {
	need(t, "python3")
	const ask = `python3 -c '
import ctypes, os
print(os.getgroups())
libc = ctypes.CDLL(None, use_errno=True)
print(libc.getgroups(0, None), libc.getgroups(1, (ctypes.c_uint32 * 1)()), ctypes.get_errno(), libc.getgroups(-1, None))
'; id -G`
	for _, test := range []struct {
		groups []uint32
		want   string
	}{
		{[]uint32{}, "[]\n0 0 0 -1\n0\n"},
		{[]uint32{4294967294, 77, 5}, "[5, 77, 4294967294]\n3 -1 22 -1\n0 5 77 4294967294\n"},
	} {
		s := start(t, Options{Groups: test.groups})
		if got := shell(t, s, t.TempDir(), ask); got != test.want {
			t.Errorf("groups %v: a program sees %q, want %q", test.groups, got, test.want)
		}
	}
}
