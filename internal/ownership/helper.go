package ownership

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// helperName is argv[0] of the process between the supervisor and a command.
const helperName = "pdibuild-ownership-exec"

// helperArgs is the number of the helper's own arguments: its name, the
// socket, the settings, the parent death signal, the path of the command.
const helperArgs = 5

// Settings of the helper, one letter each.
const (
	settingNoStat     = "s"
	settingNoNewPrivs = "p"
)

// First byte of a helper's message.
const (
	messageListener = 'L'
	messageFailure  = 'E'
)

// exitNotExecuted is the helper's exit status if the command did not start.
const exitNotExecuted = 127

// InitReexec has to be called first in main, and in TestMain of tests. It
// returns false in ordinary processes. In a helper, which a [Supervisor] starts
// by running this program again, it replaces the process by the command and
// does not return: if that fails, the supervisor gets the reason and the
// process ends with status 127.
func InitReexec() bool {
	if len(os.Args) <= helperArgs || os.Args[0] != helperName {
		return false
	}
	socket, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return false
	}
	deathSignal, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = keepDeathSignal(deathSignal)
	}
	if err == nil {
		err = superviseAndExec(socket, os.Args[2], os.Args[4], os.Args[helperArgs:])
	}
	message := append([]byte{messageFailure}, err.Error()...)
	_ = unix.Sendmsg(socket, message, nil, nil, unix.MSG_NOSIGNAL)
	unix.Exit(exitNotExecuted)
	return true
}

// keepDeathSignal sets SysProcAttr.Pdeathsig again, which holds for one thread
// only: the first, which need not be the one that executes the command. From
// here on it has to stay the same.
func keepDeathSignal(signal int) error {
	runtime.LockOSThread()
	if signal == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(signal), 0, 0, 0); err != nil {
		return fmt.Errorf("set the parent death signal: %w", err)
	}
	return nil
}

// superviseAndExec returns only if it fails. The thread is filtered from the
// moment installFilter returns; until the supervisor has the descriptor a
// notification would block it, so nothing in between may call stat or chown.
func superviseAndExec(socket int, settings, path string, argv []string) error {
	unix.CloseOnExec(socket)
	env := os.Environ()
	if strings.Contains(settings, settingNoNewPrivs) {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	program := filterProgram(callNumbers(!strings.Contains(settings, settingNoStat)))
	listener, err := installFilter(program)
	if err != nil {
		return err
	}
	err = unix.Sendmsg(socket, []byte{messageListener}, unix.UnixRights(listener), nil, unix.MSG_NOSIGNAL)
	if err != nil {
		return fmt.Errorf("hand the notifications to the supervisor: %w", err)
	}
	if err := unix.Close(listener); err != nil {
		return fmt.Errorf("close the listener: %w", err)
	}
	if err := syscall.Exec(path, argv, env); err != nil {
		return &os.PathError{Op: "exec", Path: path, Err: err}
	}
	return nil
}

// helper is the supervisor's view of a helper process: a socket pair. Both
// ends are open here until the process has its own.
type helper struct {
	ours   *net.UnixConn
	theirs *os.File
	once   [2]sync.Once
	done   chan struct{} // closed when the helper has nothing more to say
	err    error         // what it said last, valid when done
}

func newHelper() (*helper, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "supervisor"), os.NewFile(uintptr(fds[1]), "helper")
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	return &helper{ours: conn.(*net.UnixConn), theirs: theirs, done: make(chan struct{})}, nil
}

func (h *helper) closeOurs()   { h.once[0].Do(func() { _ = h.ours.Close() }) }
func (h *helper) closeTheirs() { h.once[1].Do(func() { _ = h.theirs.Close() }) }

// receive returns the listener that the helper sends; its failure as an error;
// io.EOF when it has executed the command, has died, or nobody listens to it
// any more.
func (h *helper) receive() (int, error) {
	message, oob := make([]byte, 2*unix.PathMax), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := h.ours.ReadMsgUnix(message, oob)
	if err != nil || n == 0 {
		return -1, io.EOF
	}
	if message[0] == messageFailure {
		return -1, fmt.Errorf("run a command with its file owners recorded: %s", message[1:n])
	}
	fd, err := descriptor(oob[:oobn])
	if err != nil {
		return -1, fmt.Errorf("run a command with its file owners recorded: %w", err)
	}
	return fd, nil
}

// descriptor takes the one descriptor out of a control message.
func descriptor(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	if len(messages) != 1 {
		return -1, errors.New("no descriptor in the helper's message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}
