package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Main is the main function of the process that runs one command. It has a
// mount namespace of its own: it arranges the root file system there, makes that
// its root, runs the command, and cleans up what the arranging has left in the
// root.
func Main() {
	runtime.LockOSThread()
	answer, request := os.NewFile(3, "answer"), os.NewFile(4, "request")
	keepDescriptors()
	// The modes of files must not depend on who builds.
	syscall.Umask(0o022)
	var res result
	req, err := readRequest(request)
	_ = request.Close()
	if err == nil {
		res.ExitCode, err = runRequest(req)
	}
	if err != nil {
		res = result{Err: err.Error()}
		var start *StartError
		if errors.As(err, &start) {
			res.ExitCode = start.ExitCode
		}
		var point *MountPointError
		res.MountPoint = errors.As(err, &point)
	}
	_ = json.NewEncoder(answer).Encode(res)
}

// keepDescriptors keeps from the command what this program has been left by who
// started it: with an open directory of the host a step would be out of its root.
func keepDescriptors() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	fds, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		fds = nil
		syscall.CloseOnExec(3)
		syscall.CloseOnExec(4)
	}
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func runRequest(req *Request) (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("make mounts private: %w", err)
	}
	if req.PIDNamespace {
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return 0, ErrNoPIDNamespace
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become the reaper: %w", err)
	}
	if req.NoNetwork {
		if err := loopbackUp(); err != nil {
			return 0, fmt.Errorf("start the loopback interface: %w", err)
		}
	}
	if err := mountScratch(req.Scratch); err != nil {
		return 0, err
	}
	if req.Root == "" {
		return runOnHost(req)
	}
	return runInRoot(req)
}

// mountScratch puts a tmpfs over dir. Swapping is off where the kernel lets
// us say so (not in a user namespace).
func mountScratch(dir string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, "mode=0700,noswap")
	if err != nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, "mode=0700")
	}
	if err != nil {
		return fmt.Errorf("mount a private tmpfs: %w", err)
	}
	return nil
}

func runOnHost(req *Request) (int, error) {
	path, err := lookPath(req, os.Stat)
	if err != nil {
		return 0, err
	}
	cmd := &exec.Cmd{Path: path, Args: req.Args, Env: req.Env, Dir: "/"}
	return runCommand(cmd, req, (*exec.Cmd).Start)
}

func runInRoot(req *Request) (int, error) {
	r := &root{path: filepath.Join(req.Scratch, "root"), scratch: req.Scratch}
	if err := r.bind(req.Root); err != nil {
		return 0, err
	}
	if err := r.arrange(req); err != nil {
		return 0, errors.Join(err, r.tidy())
	}
	// Some sandboxes forbid it; then the step sees the host's name.
	if !req.HostNames {
		_ = unix.Sethostname([]byte(stepHostname))
	}
	path, err := lookPath(req, r.inside.Stat)
	code := 0
	switch {
	case err != nil:
	case req.Runtime != "":
		code, err = runWithRuntime(req, r)
	default:
		code, err = runDirectly(req, r, path)
	}
	return code, errors.Join(err, r.tidy())
}

// runDirectly makes the arranged root this process's root and runs the
// command there.
func runDirectly(req *Request, r *root, path string) (int, error) {
	if err := r.pivot(); err != nil {
		return 0, err
	}
	cmd := &exec.Cmd{Path: path, Args: req.Args, Env: req.Env, Dir: req.Cwd}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if req.MapUser {
		if err := mapUser(cmd.SysProcAttr, req); err != nil {
			return 0, err
		}
	}
	if !req.SingleID && (req.UID != 0 || req.GID != 0 || len(req.Groups) > 0) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: req.UID, Gid: req.GID, Groups: req.Groups}
	}
	c, err := newConfinement(req.Capabilities)
	if err != nil {
		return 0, err
	}
	defer c.end()
	return runCommand(cmd, req, c.start)
}

// runCommand runs cmd, which start starts, with our input and output or with a
// terminal, then ends whatever it has left running.
func runCommand(cmd *exec.Cmd, req *Request, start func(*exec.Cmd) error) (int, error) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var sig *signaller
	if req.Control {
		control, err := attend(cmd, req)
		if err != nil {
			return 0, err
		}
		sig = &signaller{control: control}
	}
	err := start(cmd)
	if req.Terminal != nil {
		_ = cmd.Stdin.(*os.File).Close() // else its end would not be seen
	}
	if err != nil {
		return 0, startError(cmd, err)
	}
	sig.serve(cmd.Process.Pid)
	code := waitAndReap(cmd.Process.Pid)
	sig.end()
	endStragglers(req.PIDNamespace)
	return code, nil
}

// startError explains why a command was not started.
func startError(cmd *exec.Cmd, err error) error {
	e := &StartError{ExitCode: codeNotExecutable, Err: fmt.Errorf("start %s: %w", cmd.Args[0], err)}
	switch {
	case errors.Is(err, syscall.ENOENT):
		e.ExitCode = codeNotFound
		if _, statErr := os.Stat(cmd.Path); statErr == nil {
			e.Err = fmt.Errorf("start %s: it is there, but the interpreter or loader that it names is not", cmd.Args[0])
		}
	case errors.Is(err, syscall.ENOEXEC):
		e.Err = fmt.Errorf("start %s: it is no program for this machine (linux/%s), or a script without '#!'", cmd.Args[0], runtime.GOARCH)
	case !errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EPERM):
		return e.Err // the command is not to blame
	}
	return e
}

// waitAndReap waits for pid, and meanwhile for every orphan that has become
// our child.
func waitAndReap(pid int) int {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return -1
		case got == pid && ws.Exited():
			return ws.ExitStatus()
		case got == pid && ws.Signaled():
			return 128 + int(ws.Signal())
		}
	}
}

// endStragglers kills background processes: a step is over when its command is.
func endStragglers(pidNamespace bool) {
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if pidNamespace && os.Getpid() == 1 { // -1 would be all of the host's otherwise
			_ = syscall.Kill(-1, syscall.SIGKILL)
		} else {
			for _, p := range descendants(os.Getpid()) {
				_ = syscall.Kill(p, syscall.SIGKILL)
			}
		}
		var ws syscall.WaitStatus
		if _, err := syscall.Wait4(-1, &ws, 0, nil); errors.Is(err, syscall.ECHILD) {
			return
		}
	}
}

// lookPath finds the request's program as its own PATH says, in the files that
// stat knows.
func lookPath(req *Request, stat func(string) (fs.FileInfo, error)) (string, error) {
	name := req.Args[0]
	if strings.Contains(name, "/") {
		_, err := stat(inDirectory(req.Cwd, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return "", &StartError{ExitCode: codeNotFound, Err: fmt.Errorf("command not found: %s", name)}
		}
		return name, nil
	}
	path := ""
	for _, kv := range req.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		full := filepath.Join(inDirectory(req.Cwd, dir), name)
		info, err := stat(full)
		if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", &StartError{ExitCode: codeNotFound, Err: fmt.Errorf("command not found: %s (PATH is %s)", name, path)}
}

// inDirectory is name as a process in dir means it.
func inDirectory(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join("/", dir, name)
}

// loopbackUp starts lo in a new network namespace; see netdevice(7).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
