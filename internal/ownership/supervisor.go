package ownership

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
)

// Options of a [Supervisor]. The zero value is right for a build.
type Options struct {
	// NoStat leaves stat and its relatives alone. Programs are faster, and do
	// not see the recorded owners: one that copies a file's owner to another
	// file loses it.
	NoStat bool
	// FakeSetID makes setuid and its relatives return success without effect
	// where the kernel would refuse them. By default they fail, and
	// [Supervisor.Refused] tells of it.
	FakeSetID bool
	// Groups are what commands are told when they ask for their supplementary
	// groups. They grant nothing, which is no loss: to the kernel, all files are
	// those of the one user. Nil leaves the answer to the kernel.
	Groups []uint32
	// NoNewPrivs sets no_new_privs on commands, which makes supervision
	// possible without CAP_SYS_ADMIN and set-user-ID programs ineffective.
	NoNewPrivs bool
	// Root is the directory in which files are named. Nil is the root of this
	// process. It stays open as long as the supervisor.
	Root *rootfs.Root
	// Known are owners that an earlier supervisor has reported as
	// [Supervisor.Others]. A file that does not exist, or can carry the
	// attribute, is left out.
	Known []Entry
}

// Supervisor answers the chown and stat calls of the commands given to it and
// of all their descendants. Its methods may be called concurrently.
type Supervisor struct {
	options  Options
	uid, gid int
	sizes    notificationSizes
	handlers map[int32]handler

	chowns sync.Mutex // a chown reads the old owner, then writes the new one
	others records

	stop, stopped *os.File // closing stop makes stopped readable
	stoppedFd     int
	serving       sync.WaitGroup

	mu      sync.Mutex
	refused []string
	helpers map[*helper]struct{} // whose commands may not have been started yet
}

// Start makes a supervisor. Call [Supervisor.Close] when it is no longer
// needed. The error is a sentence about this host: its kernel is older than
// Linux 5.6, or /proc is not that of this process.
func Start(options Options) (*Supervisor, error) {
	sizes, err := kernelSizes()
	if err != nil {
		return nil, fmt.Errorf("this kernel has no seccomp user notifications (Linux 5.6 or newer has): %w", err)
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("/proc is not mounted or belongs to another process namespace (/proc/self is %q)", self)
	}
	s := &Supervisor{
		options:  options,
		uid:      os.Geteuid(),
		gid:      os.Getegid(),
		sizes:    sizes,
		handlers: handlers(!options.NoStat),
		helpers:  make(map[*helper]struct{}),
	}
	if err := s.others.begin(options.Root, options.Known); err != nil {
		return nil, err
	}
	s.stopped, s.stop, err = os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the ownership supervisor: %w", errors.Join(err, s.others.close()))
	}
	s.stoppedFd = int(s.stopped.Fd())
	return s, nil
}

// Run runs cmd under supervision and waits for it, as [exec.Cmd.Run] does. A
// process that it leaves in the background stays supervised until
// [Supervisor.Close].
func (s *Supervisor) Run(cmd *exec.Cmd) error {
	h, err := s.prepare(cmd)
	if err != nil {
		return err
	}
	err = cmd.Start()
	s.closeTheirs(h)
	if err == nil {
		err = cmd.Wait()
	}
	<-h.done
	return errors.Join(h.err, err)
}

// Prepare changes cmd, which is not started yet, so that it will run under
// supervision. Everything else about it stays: arguments, environment,
// directory, streams, extra files and process attributes, but for Chroot,
// which is refused since the program could not start itself there.
//
// If the command can't be executed it ends with status 127 and
// [Supervisor.Wait] has the reason. A cmd that was prepared must be started.
func (s *Supervisor) Prepare(cmd *exec.Cmd) error {
	_, err := s.prepare(cmd)
	return err
}

func (s *Supervisor) prepare(cmd *exec.Cmd) (*helper, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Chroot != "" {
		return nil, errors.New("supervise a command: SysProcAttr.Chroot is not supported; let the command itself call chroot")
	}
	h, err := newHelper()
	if err != nil {
		return nil, fmt.Errorf("supervise %s: %w", cmd.Path, err)
	}
	argv := cmd.Args
	if len(argv) == 0 {
		argv = []string{cmd.Path}
	}
	socket := strconv.Itoa(3 + len(cmd.ExtraFiles))
	cmd.ExtraFiles = append(slices.Clip(cmd.ExtraFiles), h.theirs)
	deathSignal := 0
	if cmd.SysProcAttr != nil {
		deathSignal = int(cmd.SysProcAttr.Pdeathsig)
	}
	cmd.Args = append([]string{helperName, socket, s.options.settings(), strconv.Itoa(deathSignal), cmd.Path}, argv...)
	cmd.Path = "/proc/self/exe"
	return h, s.employ(h)
}

func (s *Supervisor) employ(h *helper) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		h.closeOurs()
		h.closeTheirs()
		return errors.New("supervise a command: the supervisor is closed")
	}
	s.helpers[h] = struct{}{}
	s.serving.Go(func() { s.attend(h) })
	return nil
}

func (o Options) settings() string {
	settings := "-"
	if o.NoStat {
		settings += settingNoStat
	}
	if o.NoNewPrivs {
		settings += settingNoNewPrivs
	}
	return settings
}

// attend hears the helper out: it sends its listener, and later an error if it
// can't execute the command; the socket closes if it can.
func (s *Supervisor) attend(h *helper) {
	defer close(h.done)
	defer h.closeOurs()
	for {
		fd, err := h.receive()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			h.err = err
			return
		}
		l := &listener{super: s, fd: fd, stop: s.stoppedFd, sizes: s.sizes}
		s.serving.Go(l.serve)
	}
}

// closeTheirs closes our copies of the helpers' ends of the sockets, so that
// they are heard to end. It must not be called before they have their own,
// that is before their commands were started.
func (s *Supervisor) closeTheirs(helpers ...*helper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range helpers {
		h.closeTheirs()
		delete(s.helpers, h)
	}
}

// Wait waits until all processes of all commands have ended, those in the
// background too, and returns why commands could not be executed. Call it
// after the commands have been started.
func (s *Supervisor) Wait() error {
	s.mu.Lock()
	helpers := slices.Collect(maps.Keys(s.helpers))
	s.mu.Unlock()
	s.closeTheirs(helpers...)
	s.serving.Wait()
	var errs []error
	for _, h := range helpers {
		errs = append(errs, h.err)
	}
	return errors.Join(errs...)
}

// Close stops the supervision and frees what it uses. Kill processes that are
// still running before: their chown and stat calls fail with ENOSYS from now
// on.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	for h := range s.helpers {
		h.closeOurs()
		h.closeTheirs()
	}
	clear(s.helpers)
	s.mu.Unlock()
	if stop == nil {
		return nil
	}
	err := stop.Close()
	s.serving.Wait()
	return errors.Join(err, s.stopped.Close(), s.others.close())
}

// Others lists the owners of files that can't carry [XattrName]: symbolic
// links, devices, pipes and sockets, and everything on a file system without
// user extended attributes. Files that were removed since may be among them. Of
// those that were known at the beginning all are listed, also one that belongs to
// root now. Ask before [Supervisor.Close].
func (s *Supervisor) Others() []Entry { return s.others.entries() }

// Owner is like the function [Owner] and knows the files of
// [Supervisor.Others] too.
func (s *Supervisor) Owner(path string) (uid, gid int, ok bool, err error) {
	uid, gid, ok, err = Owner(path)
	if err != nil || ok || s.others.size.Load() == 0 {
		return uid, gid, ok, err
	}
	st, err := statxAt(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return 0, 0, false, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	u, g, ok := s.others.get(&st)
	return int(u), int(g), ok, nil
}

// Refused tells which changes of identity processes have asked for that this
// user namespace can't do, the first ones of them, as "program: call(ids)". If
// a command has failed this may be why.
func (s *Supervisor) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}
