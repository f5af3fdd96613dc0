package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/internal/worker"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// ContainerOptions say how a container differs from what its image says. The
// zero value runs the image's command as the image's user.
type ContainerOptions struct {
	// Args replace the image's command. Its entrypoint, if it has one, gets
	// them.
	Args []string
	// Entrypoint replaces the image's, and leaves its command out. Empty but
	// not nil means none.
	Entrypoint []string
	// Shell runs Args, or when there are none the image's best interactive
	// shell, without the image's entrypoint. The host is called pdibuild there,
	// so that a prompt does not look like the host's.
	Shell bool
	// Env are NAME=VALUE on top of the image's.
	Env []string
	// HostEnv is set unless the image or Env sets it: http_proxy and its like.
	HostEnv map[string]string
	// User is NAME, UID, NAME:GROUP or UID:GID. Empty means the image's.
	User string
	// Workdir is absolute. Empty means the image's.
	Workdir string
	// Volumes are directories and files of this host.
	Volumes []Volume
	// NoNetwork leaves only the loopback interface.
	NoNetwork bool
	// Pull says when the registry is asked for the image. Empty means
	// PullMissing.
	Pull Pull
	// Events receives warnings; may be nil.
	Events func(Event)
}

// A Volume shows a directory or file of this host in a container.
type Volume struct {
	Source, Target string
	ReadOnly       bool
}

// A Container is a root file system in which commands can be run. What a
// container of an image or a stage changes in its own files is lost when it is
// closed; what it writes to volumes belongs to the user who runs it.
type Container struct {
	b   *Builder
	wk  *work
	req *worker.Request
	// failed is set for what a failed step has left.
	failed *failedStep
	// mounts come before the volumes.
	mounts []worker.Mount
	// after are released with the container.
	after []func() error
}

// Container makes a container of an image of the store; an image that is not
// there is fetched if opt.Pull allows it. Close it.
func (b *Builder) Container(ctx context.Context, image string, opt ContainerOptions) (_ *Container, err error) {
	defer func() { err = b.hostCause("make a container of "+image, err) }()
	s, err := b.containerImage(ctx, image, opt)
	if err != nil {
		return nil, err
	}
	c := &Container{b: b}
	if c.wk, err = b.works.create(s.layer); err != nil {
		return nil, err
	}
	return c.prepared(ctx, s.image.Config, opt)
}

// containerImage finds an image as 'podman run' would.
func (b *Builder) containerImage(ctx context.Context, image string, opt ContainerOptions) (state, error) {
	pull := opt.Pull
	if pull == "" {
		pull = PullMissing
	}
	if img, err := b.localImage(image); err == nil && pull != PullAlways {
		return b.imageState(ctx, img.ID, "")
	}
	s, err := b.fetchBase(ctx, image, baseOptions{
		platform: "linux/" + runtime.GOARCH, pull: pull, fetch: true, events: opt.Events, event: Event{Text: image},
	})
	var in *InputError
	if errors.As(err, &in) && b.ids.unpackError(err) == nil {
		return s, &InputError{Subject: "image " + image, Err: errors.New("the store has none of that name"), Hint: "a name with a registry in front, such as docker.io/library/debian:12, is fetched from there", Code: fail.ImageNotFound}
	}
	var reg *RegistryError
	if errors.As(err, &reg) {
		reg.NotInStore = true
	}
	return s, err
}

// prepared works out what is to be run; if it fails, c is closed.
func (c *Container) prepared(ctx context.Context, config v1.ImageConfig, opt ContainerOptions) (_ *Container, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	isolation, err := c.b.chooseIsolation(ctx, IsolationAuto)
	if err != nil {
		return nil, err
	}
	view := &rootView{Root: c.wk.root}
	user := opt.User
	if user == "" {
		user = config.User
	}
	uid, gid, err := view.owner(user)
	if err != nil {
		return nil, err
	}
	if opt.Workdir == "" && c.failed == nil {
		if err := c.b.makeWorkdir(c.wk.root, config.WorkingDir, uid, gid); err != nil {
			return nil, err
		}
	}
	c.req = &worker.Request{
		Root: c.wk.root.HostPath(), Scratch: c.wk.scratch, PIDNamespace: isolation.PIDNamespace,
		UID: uint32(uid), GID: uint32(gid), NoNetwork: opt.NoNetwork, HostNames: !opt.Shell, Control: true,
		Cwd: path.Join("/", joinWorkdir(config.WorkingDir, opt.Workdir)), Capabilities: worker.DefaultCapabilities(), SingleID: c.b.ids.single,
		Mounts: c.mounts,
	}
	name, _, _ := strings.Cut(user, ":")
	if c.req.Groups, err = view.processGroups(user, gid); err != nil {
		return nil, err
	}
	if c.req.Args, err = containerArgs(view, config, opt); err != nil {
		return nil, err
	}
	if c.req.Env, err = containerEnv(view, config, opt, containerUser{name, c.b.ids.single}); err != nil {
		return nil, err
	}
	if err := c.addVolumes(opt); err != nil {
		return nil, err
	}
	if err := c.chooseOwner(opt); err != nil {
		return nil, err
	}
	return c, c.checkWorkdir(view)
}

// containerArgs is the entrypoint with its arguments.
func containerArgs(view *rootView, config v1.ImageConfig, opt ContainerOptions) ([]string, error) {
	if opt.Shell {
		if len(opt.Args) > 0 {
			return opt.Args, nil
		}
		return imageShell(view)
	}
	entrypoint, args := config.Entrypoint, opt.Args
	if opt.Entrypoint != nil {
		entrypoint = opt.Entrypoint
	} else if len(args) == 0 {
		args = config.Cmd
	}
	all := slices.Concat(entrypoint, args)
	if len(all) == 0 || all[0] == "" {
		return nil, &InputError{Err: errors.New("no command: neither the command line nor the image names one"), Hint: "give a command", Code: fail.NoCommand}
	}
	return all, nil
}

// imageShell is the best shell of the image.
func imageShell(view *rootView) ([]string, error) {
	for _, sh := range []string{"/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/busybox/sh"} {
		if info, err := view.Stat(sh); err == nil && info.Mode().IsRegular() {
			return []string{sh}, nil
		}
	}
	return nil, &InputError{Err: errors.New("there is no shell in it: neither bash nor sh"), Hint: "run one of its programs", Code: fail.NoShell}
}

// A containerUser is whose environment it is.
type containerUser struct {
	name   string
	single bool
}

// containerEnv is the image's, then the host's, then the command line's.
func containerEnv(view *rootView, config v1.ImageConfig, opt ContainerOptions, user containerUser) ([]string, error) {
	s := (state{image: v1.Image{Config: config}}).clone()
	if _, ok := s.getenv("PATH"); !ok {
		s.setenv("PATH", strings.TrimPrefix(defaultPath, "PATH="))
	}
	for name, value := range opt.HostEnv {
		if _, ok := s.getenv(name); !ok {
			s.setenv(name, value)
		}
	}
	for _, kv := range opt.Env {
		name, value, _ := strings.Cut(kv, "=")
		s.setenv(name, value)
	}
	if _, ok := s.getenv("APT_CONFIG"); !ok && user.single {
		s.setenv("APT_CONFIG", worker.AptConfig)
	}
	if _, ok := s.getenv("HOME"); !ok {
		home, err := view.home(user.name)
		if err != nil {
			return nil, err
		}
		s.setenv("HOME", home)
	}
	return s.image.Config.Env, nil
}

// addVolumes checks the volumes while a good message is possible.
func (c *Container) addVolumes(opt ContainerOptions) error {
	for _, v := range opt.Volumes {
		source, err := filepath.Abs(v.Source)
		if err == nil {
			_, err = os.Stat(source)
		}
		if errors.Is(err, os.ErrNotExist) {
			return &InputError{Subject: "volume " + v.Source, Err: errors.New("there is no such file or directory on this host"), Hint: fmt.Sprintf("make it with 'mkdir -p %s', or correct the path", source)}
		}
		if err != nil {
			return &InputError{Subject: "volume " + v.Source, Err: err}
		}
		c.req.Mounts = append(c.req.Mounts, worker.Mount{Type: "bind", Source: source, Target: v.Target, Write: !v.ReadOnly})
	}
	return nil
}

// checkWorkdir says so if the working directory is neither in the image nor in
// a volume.
func (c *Container) checkWorkdir(view *rootView) error {
	dir := c.req.Cwd
	for _, m := range c.req.Mounts {
		if rel, err := filepath.Rel(path.Join("/", m.Target), dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return nil
		}
	}
	if view.isDir(dir) {
		return nil
	}
	return &InputError{Subject: "working directory " + dir, Err: errors.New("it is not in the container"), Hint: "name a directory of the image, or mount one there", Code: fail.NoWorkdir, Data: fail.Data{"dir": dir}}
}

// Streams connect a command in a container with whoever runs it.
type Streams struct {
	// Stdin may be nil, which is empty input.
	Stdin *os.File
	// Stdout and Stderr may be nil. With a terminal all goes to Stdout.
	Stdout, Stderr io.Writer
	// Terminal gives the command a terminal of its own. When Stdin is a
	// terminal, too, it is in raw mode meanwhile.
	Terminal bool
	// Signals are passed on to the command; SIGWINCH tells its terminal that
	// Stdin's has another size now. May be nil.
	Signals <-chan os.Signal
}

// Run runs the command and returns its exit code, 128 and the signal's number
// if one has ended it. When ctx ends, all that runs in the container is killed.
//
// A *CommandError says that the command could not be started, a *HostError
// that this host cannot run any.
func (c *Container) Run(ctx context.Context, streams Streams) (exitCode int, err error) {
	session, err := worker.NewSession(streams.Stdin, streams.Stdout, streams.Signals)
	if err != nil {
		return 0, err
	}
	req := *c.req
	run := worker.Options{Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Session: session}
	if run, err = c.wk.supervised(run); err != nil {
		return 0, err
	}
	if streams.Terminal {
		req.Terminal, run.Stdin = session.Size(), nil
		if !hasVariable(req.Env, "TERM") {
			req.Env = append(slices.Clone(req.Env), "TERM=xterm") // every image knows it
		}
	}
	report, err := runWorker(ctx, &req, run)
	c.wk.recordLinks(report)
	return report.ExitCode, err
}

func hasVariable(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// Close throws the container away. One of a failed step stays as it is now,
// for the next look.
func (c *Container) Close() error {
	var errs []error
	if c.failed != nil {
		errs = append(errs, c.failed.leave(c.wk))
	} else {
		errs = append(errs, c.wk.release())
	}
	for _, f := range c.after {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
