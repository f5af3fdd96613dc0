package worker

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlFD is the worker's end of the socket to the one who runs it.
const controlFD = 5

// A TerminalSize is in characters.
type TerminalSize struct{ Rows, Cols uint16 }

// attend makes the command the first of a session of its own, so that nothing
// in it can reach the person's terminal, and gives it its own terminal if it is
// to have one. The other end of that goes through the socket.
func attend(cmd *exec.Cmd, req *Request) (*os.File, error) {
	syscall.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	cmd.SysProcAttr.Setsid = true
	if req.Terminal == nil {
		return control, nil
	}
	master, slave, err := openTerminal(req)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	defer master.Close()
	if err := unix.Sendmsg(controlFD, []byte{0}, unix.UnixRights(int(master.Fd())), nil, 0); err != nil {
		return nil, fmt.Errorf("hand over the terminal: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true // that of its descriptor 0
	return control, nil
}

// openTerminal makes a terminal in the devpts of the arranged root; see pts(4).
func openTerminal(req *Request) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "terminal")
	defer func() {
		if err != nil {
			_ = master.Close()
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, os.NewSyscallError("TIOCSPTLCK", err)
	}
	size := &unix.Winsize{Row: req.Terminal.Rows, Col: req.Terminal.Cols}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size); err != nil {
		return nil, nil, os.NewSyscallError("TIOCSWINSZ", err)
	}
	sfd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, os.NewSyscallError("TIOCGPTPEER", errno)
	}
	slave = os.NewFile(sfd, "terminal")
	if !req.MapUser && req.UID != 0 {
		err = slave.Chown(int(req.UID), -1)
	}
	return master, slave, err
}

// A signaller passes signals that come through a socket on to the command. A
// nil one has nothing to do.
type signaller struct {
	control *os.File
	mu      sync.Mutex
	pid     int
}

func (s *signaller) serve(pid int) {
	if s == nil {
		return
	}
	s.pid = pid
	go func() {
		for b := make([]byte, 1); ; {
			if n, err := s.control.Read(b); err != nil || n == 0 {
				return
			}
			s.send(syscall.Signal(b[0]))
		}
	}()
}

// send sends what a terminal sends to all of the command's processes to all
// of them, and other signals to the command alone, as kill(1) does.
func (s *signaller) send(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pid == 0:
	case sig == syscall.SIGINT, sig == syscall.SIGQUIT:
		_ = syscall.Kill(-s.pid, sig)
	default:
		_ = syscall.Kill(s.pid, sig)
	}
}

// end forgets the command, whose number may be another process's soon.
func (s *signaller) end() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = 0
}
