package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// drainTime bounds how long a terminal's last output is waited for when
// something that nobody could kill keeps it open.
const drainTime = 2 * time.Second

// A Session is the near end of a worker's control socket: it sends the signals
// there, and when a terminal comes back, copies between it and stdin and stdout.
type Session struct {
	stdin        *os.File
	stdout       io.Writer
	signals      <-chan os.Signal
	ours, theirs *os.File
	// stop is closed at the end; stopRead wakes whoever waits for keys.
	stop                chan struct{}
	stopRead, stopWrite *os.File
	receiving, copying  sync.WaitGroup
	mu                  sync.Mutex
	terminal            *os.File
	reading             bool // keys closes stopRead
	restore             func()
}

// NewSession makes a session for one call of [Run]. Stdin, which may be nil, and
// stdout are what the command's terminal is connected with, if it gets one; when
// stdin is a terminal, too, it is in raw mode meanwhile. Signals, which may be
// nil, are passed on to the command; SIGWINCH tells its terminal that stdin's
// has another size now.
func NewSession(stdin *os.File, stdout io.Writer, signals <-chan os.Signal) (*Session, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect with the command: %w", err)
	}
	s := &Session{
		stdin: stdin, stdout: stdout, signals: signals, stop: make(chan struct{}), restore: func() {},
		ours: os.NewFile(uintptr(fds[0]), "control"), theirs: os.NewFile(uintptr(fds[1]), "control"),
	}
	if s.stopRead, s.stopWrite, err = os.Pipe(); err != nil {
		_, _ = s.ours.Close(), s.theirs.Close()
		return nil, fmt.Errorf("connect with the command: %w", err)
	}
	return s, nil
}

// Size of the terminal at the other end; a usual one where there is none.
func (s *Session) Size() *TerminalSize {
	if s.stdin != nil {
		if ws, err := unix.IoctlGetWinsize(int(s.stdin.Fd()), unix.TIOCGWINSZ); err == nil && ws.Row > 0 {
			return &TerminalSize{ws.Row, ws.Col}
		}
	}
	return &TerminalSize{24, 80}
}

// begin is called once the worker runs.
func (s *Session) begin() {
	_ = s.theirs.Close()
	s.receiving.Add(1)
	go s.receive()
	go s.passSignals()
}

// end is called when the worker is gone, also if it has never been there.
func (s *Session) end() {
	_ = s.theirs.Close()
	s.receiving.Wait() // the worker's end is closed
	drained := make(chan struct{})
	go func() { s.copying.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	close(s.stop)
	_, _ = s.stopWrite.Close(), s.ours.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal != nil {
		_ = s.terminal.Close()
	}
	if !s.reading {
		_ = s.stopRead.Close()
	}
	s.restore()
}

// passSignals passes signals on until the end.
func (s *Session) passSignals() {
	for {
		select {
		case <-s.stop:
			return
		case sig := <-s.signals:
			s.signal(sig)
		}
	}
}

func (s *Session) signal(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if number != syscall.SIGWINCH {
		_, _ = s.ours.Write([]byte{byte(number)}) // the command may have ended
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal != nil {
		size := s.Size()
		_ = unix.IoctlSetWinsize(int(s.terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	}
}

// receive waits for the terminal, and then for the end of the worker.
func (s *Session) receive() {
	defer s.receiving.Done()
	for {
		message, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := unix.Recvmsg(int(s.ours.Fd()), message, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if fd, ok := oneDescriptor(oob[:oobn]); ok {
			s.connect(fd)
		}
	}
}

func oneDescriptor(oob []byte) (int, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return 0, false
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	return append(fds, 0)[0], err == nil && len(fds) == 1
}

// connect begins to copy between the command's terminal and stdin and stdout.
func (s *Session) connect(fd int) {
	_ = unix.SetNonblock(fd, true) // so that Close ends a Read
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminal = os.NewFile(uintptr(fd), "terminal")
	if in := s.stdin; in != nil {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			s.restore = func() { _ = term.Restore(int(in.Fd()), state) }
		}
		s.reading = true
		go s.keys(in, s.terminal)
	}
	s.copying.Add(1)
	go func() {
		defer s.copying.Done()
		// It ends with EIO when nobody has the other end open any more.
		_, _ = io.Copy(s.stdout, s.terminal)
	}()
}

// endOfFile is what a terminal understands as the end of its input.
const endOfFile = 4

// keys copies from in until the end of either.
func (s *Session) keys(in, to *os.File) {
	defer s.stopRead.Close()
	buf := make([]byte, 4<<10)
	for {
		poll := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(s.stopRead.Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(poll, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || poll[1].Revents != 0 {
			return
		}
		n, err := in.Read(buf)
		if n == 0 || err != nil {
			_, _ = to.Write([]byte{endOfFile})
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
