package ownership

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests on a listener that golang.org/x/sys does not name.
const (
	ioctlNotifIDValid  = 0x40082102
	ioctlNotifSetFlags = 0x40082104
)

// Layouts of struct seccomp_notif and struct seccomp_notif_resp.
type (
	notification struct {
		id    uint64
		pid   uint32
		flags uint32
		data  struct {
			number int32
			arch   uint32
			ip     uint64
			args   [6]uint64
		}
	}
	notificationReply struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
	notificationSizes struct {
		notif, reply, data uint16
	}
)

// kernelSizes asks for the sizes of this kernel's structures, which may grow,
// and so whether it has notifications at all (Linux 5.0).
func kernelSizes() (notificationSizes, error) {
	var sizes notificationSizes
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return sizes, errno
	}
	sizes.notif = max(sizes.notif, uint16(unsafe.Sizeof(notification{})))
	sizes.reply = max(sizes.reply, uint16(unsafe.Sizeof(notificationReply{})))
	return sizes, nil
}

// listener serves the notifications of one process tree until its last process
// has ended or the supervisor is closed.
//
// One worker receives and answers, which is twice as fast as handing calls
// over to others. But an answer may have to wait for the answer to another
// call, as with a FUSE file system that is served from inside the tree: a
// worker that takes long is succeeded by another.
type listener struct {
	super   *Supervisor
	fd      int
	stop    int // becomes readable when the supervisor is closed
	sizes   notificationSizes
	workers sync.WaitGroup
	// turn is odd while the current worker answers a call, and counts up; a
	// worker whose turn was ended by someone else has been succeeded.
	turn     atomic.Uint64
	finished chan struct{}
	finish   sync.Once
}

// succession is how long a worker may take for an answer before another one
// goes on with the next call.
const succession = 10 * time.Millisecond

// serve returns when there is nothing more to serve, and closes the listener.
func (l *listener) serve() {
	// Answers are waited for: wake the process on the same processor at once
	// (Linux 6.6; elsewhere the request is unknown and nothing is lost).
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	l.finished = make(chan struct{})
	l.workers.Go(l.work)
	l.workers.Go(l.watch)
	l.workers.Wait()
	_ = unix.Close(l.fd)
}

func (l *listener) work() {
	buf := make([]uint64, (int(l.sizes.notif)+7)/8)
	for {
		n, ok := l.next(buf)
		if !ok {
			l.finish.Do(func() { close(l.finished) })
			return
		}
		turn := l.turn.Add(1)
		l.answer(n)
		if !l.turn.CompareAndSwap(turn, turn+1) {
			return
		}
	}
}

// watch starts a new worker whenever the current one is in the same turn for
// two ticks.
func (l *listener) watch() {
	ticks := time.NewTicker(succession)
	defer ticks.Stop()
	var last uint64
	for {
		select {
		case <-l.finished:
			return
		case <-ticks.C:
		}
		turn := l.turn.Load()
		if turn%2 == 1 && turn == last && l.turn.CompareAndSwap(turn, turn+1) {
			l.workers.Go(l.work)
		}
		last = turn
	}
}

// next waits for a notification. The result is in buf and valid until the next
// call.
func (l *listener) next(buf []uint64) (*notification, bool) {
	for l.wait() {
		clear(buf)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&buf[0])))
		switch errno {
		case 0:
			return (*notification)(unsafe.Pointer(&buf[0])), true
		case unix.EINTR, unix.ENOENT: // the process was killed before we got here
			continue
		default:
			return nil, false
		}
	}
	return nil, false
}

// wait reports whether a notification is there; it is false when no process is
// left or the supervisor is closed.
func (l *listener) wait() bool {
	fds := []unix.PollFd{
		{Fd: int32(l.fd), Events: unix.POLLIN},
		{Fd: int32(l.stop), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && fds[1].Revents == 0 && fds[0].Revents&unix.POLLIN != 0
	}
}

func (l *listener) answer(n *notification) {
	v := proceed
	if h := l.super.handlers[n.data.number]; h != nil && n.data.arch == auditArch {
		v = h(l.super, &call{listener: l.fd, id: n.id, tid: int(n.pid), number: n.data.number, args: n.data.args})
	}
	buf := make([]uint64, (int(l.sizes.reply)+7)/8)
	reply := (*notificationReply)(unsafe.Pointer(&buf[0]))
	reply.id = n.id
	if v.proceed {
		reply.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	} else {
		reply.errno, reply.value = -int32(v.errno), int64(v.value)
	}
	// An error means that the process was killed meanwhile.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(reply)))
}
