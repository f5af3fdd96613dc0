// Package namespace runs the program again in a mount namespace of its own and,
// for an ordinary user, in a user namespace in which the user is root.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/storage/pkg/homedir"
	"go.podman.io/storage/pkg/unshare"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// variable marks a process that Enter has started; its value names the kind of
// namespace.
const variable = "_PDIBUILD_NAMESPACE"

// The values of variable.
const (
	inMountNamespace = "mount"
	inOwnNamespace   = "user"
)

// Own reports whether Enter has made the user namespace
// that this process is in. Otherwise it is the host's own, or one that another
// program has made.
func Own() bool {
	return os.Getenv(variable) == inOwnNamespace //nolint:forbidigo // the marker of our own re-execution, not configuration
}

// Enter runs the program again with the same arguments in a mount
// namespace of its own and, for an ordinary user, in a user namespace in which
// the user is root; the process that called it passes signals on, waits and
// exits with the same status. Inside it returns nil at once. Mounts made by a
// build are then invisible to the host and go away with the process, however
// it ends.
//
// The user's ranges in /etc/subuid and /etc/subgid are mapped. A user without
// any gets a namespace with a single user id. The umask becomes 022.
//
// The error is a *HostError if this host does not allow that.
func Enter() error {
	if os.Getenv(variable) != "" { //nolint:forbidigo // the marker of our own re-execution, not configuration
		// The storage library makes the roots of layers with it, which would
		// be closed to the image's own users under umask 077; podman and
		// buildah also force it.
		syscall.Umask(0o022)
		return privateMounts()
	}
	cmd, err := command()
	if err != nil {
		return err
	}
	status, err := runForwardingSignals(cmd)
	if err != nil {
		return explain(err)
	}
	os.Exit(status) //nolint:forbidigo // the child was this program; its status is ours
	return nil
}

func command() (*unshare.Cmd, error) {
	args := append([]string{os.Args[0] + "-in-a-user-namespace"}, os.Args[1:]...)
	cmd := unshare.Command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), variable+"="+inMountNamespace) //nolint:forbidigo // the same program needs the same environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = inheritedFiles()
	cmd.UnshareFlags = syscall.CLONE_NEWNS
	privileged, err := hasSysAdmin()
	if err != nil {
		return nil, failure.Host("read this process's capabilities", err, hosthelp.Process)
	}
	if privileged {
		return cmd, nil
	}
	if err := tryUserNamespace(); err != nil {
		return nil, explain(err)
	}
	cmd.UnshareFlags |= syscall.CLONE_NEWUSER
	setMappings(cmd)
	// By these the containers libraries find the user's own files.
	cmd.Env = append(cmd.Env, variable+"="+inOwnNamespace, unshare.UsernsEnvName+"=1",
		fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()))
	if dir := runtimeDir(); dir != "" {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+dir)
	}
	return cmd, nil
}

// inheritedFiles are the descriptors from 3 on that this process was started
// with, such as those of the shell's '<(…)' and '3>FILE'. Each keeps its number,
// because an argument may name it. The program's own descriptors are closed on
// exec.
func inheritedFiles() []*os.File {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	most := mostInherited
	var limit unix.Rlimit // the program's own descriptors come behind these
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		most = min(most, int(limit.Cur)/2)
	}
	var files []*os.File
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= unix.Stderr || fd > most {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		for len(files) <= fd-3 {
			files = append(files, nil)
		}
		files[fd-3] = os.NewFile(uintptr(fd), e.Name())
	}
	return files
}

// mostInherited keeps the table of descriptors small; higher ones keep their
// number anyway.
const mostInherited = 255

// runtimeDir is the user's own directory for files that need not outlive a
// reboot, auth.json among them. Without a variable that names it the libraries
// would look under /run/containers/0, for inside the namespace they are root.
// The variable may be another user's, as after 'su'. Empty means there is none.
func runtimeDir() string {
	if os.Getuid() == 0 {
		return ""
	}
	const runtime = "XDG_RUNTIME_DIR"
	if info, err := os.Stat(os.Getenv(runtime)); err == nil { //nolint:forbidigo // what the libraries read
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && int(st.Uid) == os.Getuid() {
			return "" // it is right as it is
		}
	}
	if err := os.Unsetenv(runtime); err != nil {
		return ""
	}
	dir, err := homedir.GetRuntimeDir()
	if err != nil {
		return ""
	}
	return dir
}

// setMappings maps the user to root, then all subordinate ids. Without both
// ranges, or without the programs that may map them, one id is mapped.
func setMappings(cmd *unshare.Cmd) {
	uid, gid := os.Getuid(), os.Getgid()
	cmd.UidMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(uid), Size: 1}}
	cmd.GidMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(gid), Size: 1}}
	uids, gids, err := subordinateIDs(uid)
	if err != nil {
		return
	}
	cmd.UidMappings = appendConsecutive(cmd.UidMappings, uids)
	cmd.GidMappings = appendConsecutive(cmd.GidMappings, gids)
	cmd.UseNewuidmap, cmd.UseNewgidmap = true, true
	cmd.GidMappingsEnableSetgroups = true
}

func subordinateIDs(uid int) (uids, gids []specs.LinuxIDMapping, err error) {
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			return nil, nil, err
		}
	}
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	uids, gids, err = unshare.GetSubIDMappings(name, name)
	if err == nil && (len(uids) == 0 || len(gids) == 0) {
		err = errors.New("no subordinate ids")
	}
	return uids, gids, err
}

func appendConsecutive(maps, more []specs.LinuxIDMapping) []specs.LinuxIDMapping {
	next := uint32(1)
	for _, m := range more {
		m.ContainerID = next
		next += m.Size
		maps = append(maps, m)
	}
	return maps
}

// runForwardingSignals runs cmd as if it were this process. Terminal signals
// reach the child by themselves, being in the same process group; a signal
// sent to this process alone is passed on.
func runForwardingSignals(cmd *unshare.Cmd) (status int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	// Ctrl-Z: the child tidies up the terminal before it stops, so it has to
	// be the first, or the shell would write at the same time.
	pauses := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(pauses, syscall.SIGTSTP)
		defer signal.Stop(pauses)
	}
	cmd.Hook = func(pid int) error {
		go func() {
			for {
				select {
				case s := <-signals:
					_ = cmd.Process.Signal(s)
				case <-pauses:
					pauseAfter(pid)
				}
			}
		}()
		return nil
	}
	terminal, terminalErr := term.GetState(int(os.Stdin.Fd()))
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		if terminalErr == nil { // a child that was killed could not leave raw mode
			_ = term.Restore(int(os.Stdin.Fd()), terminal)
		}
		return 128 + int(ws.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// pauseAfter stops this process when the other one, which has got the same
// signal, has stopped.
func pauseAfter(pid int) {
	for range 100 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, _ := strings.Cut(string(status), ") "); err != nil || strings.HasPrefix(rest, "T") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// privateMounts keeps the mounts of this process to itself.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return failure.Host("make mounts private", err, hosthelp.Mounts)
	}
	return nil
}

// tryUserNamespace makes a user namespace and throws it away. Its error is the
// kernel's; the library would write its own to standard error, and then report a
// child without an answer. The program to start is a directory, so that the start
// fails with EACCES where the kernel allows the namespace.
func tryUserNamespace() error {
	cmd := &exec.Cmd{Path: "/", SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}}
	err := cmd.Start()
	if errors.Is(err, syscall.EACCES) {
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno // without "fork/exec /"
	}
	return err
}

var errNoMoreNamespaces = errors.New("there may be no more of them")

func explain(err error) error {
	if _, procErr := os.Stat("/proc/self/exe"); procErr != nil {
		return failure.Host("find this program", procErr, hosthelp.Process)
	}
	topic, found := hosthelp.NoUserNamespace()
	if errors.Is(err, syscall.ENOSPC) { // so the kernel says it, and means no disk
		topic, err = hosthelp.UserNamespacesMax, errNoMoreNamespaces
	}
	return failure.Host("create a user namespace", fmt.Errorf("%w (%s)", err, found), topic)
}

func hasSysAdmin() (bool, error) {
	if os.Geteuid() != 0 {
		return false, nil
	}
	caps, err := capability.NewPid2(0)
	if err != nil {
		return false, err
	}
	if err := caps.Load(); err != nil {
		return false, err
	}
	return caps.Get(capability.EFFECTIVE, capability.CAP_SYS_ADMIN), nil
}
