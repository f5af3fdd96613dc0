package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A command is one command to be run in a working layer.
type command struct {
	argv    []string
	env     map[string]string
	user    string
	workdir string
	noNet   bool
	mounts  []recipe.Mount
	secrets []recipe.SecretUse
	// add are mounts that the recipe does not know of.
	add []worker.Mount
	// watch gets the masked output besides the log; may be nil.
	watch io.Writer
}

// performRun runs a command and keeps what it has changed.
func (x *stepRun) performRun(ctx context.Context, s state, step recipe.Run) (rec cache.Record, err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, err == nil && !rec.Added && wk.clean())) }()
	cmd := command{
		argv: argv(step.Command, s.shell(x.stage)), env: step.Env, user: step.User, workdir: step.Workdir,
		noNet: step.Network == "none", mounts: step.Mounts, secrets: step.Secrets,
	}
	req, err := x.runCommand(ctx, s, wk, cmd)
	if err != nil {
		return cache.Record{}, x.keepFailed(ctx, failure{wk, req, s, err})
	}
	if err := errors.Join(x.checkMounts(step), req.clear()); err != nil {
		return cache.Record{}, err
	}
	opt, err := x.diffOptions(wk, &req.Request)
	if err != nil {
		return cache.Record{}, err
	}
	// Without a process namespace, something that the command has started
	// may have got away.
	wk.closed = x.run.isolation.PIDNamespace
	return x.keepDiff(ctx, s.layer, wk, opt)
}

// checkMounts makes sure that what the command saw of the context is what the
// step's key was made of.
func (x *stepRun) checkMounts(step recipe.Run) error {
	now, _, err := x.run.plan.mountKeys(step, x.run.finished())
	if err == nil && !slices.Equal(now, x.planned.mounts) {
		err = &InputError{Subject: "mounts of the context", Err: errors.New("files changed while the command was running"), Hint: buildcontext.ChangingHint}
	}
	return err
}

// runCommand runs cmd in wk. An exit status other than 0 is a *StepError.
func (x *stepRun) runCommand(ctx context.Context, s state, wk *work, cmd command) (*stepRequest, error) {
	req, release, err := x.request(s, wk, cmd)
	if err != nil {
		return nil, err
	}
	log, err := x.logFile()
	if err != nil {
		return nil, errors.Join(err, release())
	}
	out := newOutput(x.run.mask, log, watched(x.lines(), cmd.watch))
	opt, err := wk.supervised(worker.Options{Stdout: out, Stderr: out})
	var report worker.Report
	if err == nil {
		report, err = runWorker(ctx, &req.Request, opt)
		wk.recordLinks(report)
	}
	err = errors.Join(err, out.Close(), release())
	if leak := x.searchCaches(req); leak != nil {
		return req, leak
	}
	if err != nil {
		return req, err
	}
	if report.ExitCode != 0 {
		hint, code := x.exitHint(req, report, out.Tail()), fail.Code("")
		if hint == killedHint {
			code = fail.MemoryUsedUp
		}
		return req, &StepError{
			Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: report.ExitCode,
			Tail: out.Tail(), LogFile: log.Name(), Hint: hint, Code: code,
			Err: fmt.Errorf("exit status %d", report.ExitCode),
		}
	}
	return req, nil
}

const killedHint = "the command was killed, probably for memory: use fewer parallel jobs in it, or build fewer stages at once"

// exitHint explains a failed command where this host is the cause.
func (x *stepRun) exitHint(req *stepRequest, report worker.Report, tail []string) string {
	denied := x.deniedCache(req, tail)
	if hint := x.run.b.ids.commandHint(tail); hint != "" {
		return hint
	}
	switch {
	case denied != "":
		return fmt.Sprintf("the cache mount at %s belongs to root: add 'owner: %s' to it", denied, req.user)
	case len(report.Refused) > 0:
		return fmt.Sprintf("the command wanted to become another user (%s), and this host gives you a single user id: "+
			"an administrator can %s; or run it as root of the image", strings.Join(report.Refused, ", "), hosthelp.Here(hosthelp.SubordinateIDs).Admin)
	case slices.ContainsFunc(tail, func(l string) bool { return strings.Contains(l, "No space left on device") }):
		return "the disk is full: make room and run the command again; finished steps are kept"
	case slices.ContainsFunc(tail, saysDiskError):
		return "a disk reports errors: run the command again when it works, finished steps are kept; the kernel's log ('dmesg') may say which one it is"
	case report.ExitCode == 137:
		return killedHint
	}
	return ""
}

// deniedCache is the target of a cache that the command's user could not use.
func (x *stepRun) deniedCache(req *stepRequest, tail []string) string {
	step, ok := x.planned.step.(recipe.Run)
	if !ok || req.UID == 0 {
		return ""
	}
	for _, m := range step.Mounts {
		refused := func(l string) bool { return strings.Contains(l, m.Target) && strings.Contains(l, "ermission denied") }
		if m.Type == "cache" && m.Owner == "" && slices.ContainsFunc(tail, refused) {
			return m.Target
		}
	}
	return ""
}

func saysDiskError(line string) bool {
	return strings.Contains(line, "Input/output error") || strings.Contains(line, "input/output error") || strings.Contains(line, "I/O error")
}

func (r *run) mask(w io.Writer) io.WriteCloser { return r.secrets.Masker(w) }

// lines passes output on, one line at a time.
func (x *stepRun) lines() func([]byte) {
	f := x.run.opt.Output
	if f == nil {
		return nil
	}
	return func(line []byte) {
		x.run.mu.Lock()
		defer x.run.mu.Unlock()
		f(x.run.secrets.Mask(x.stage.Name), x.n, line)
	}
}

// watched hands lines to watch as well.
func watched(lines func([]byte), watch io.Writer) func([]byte) {
	if watch == nil {
		return lines
	}
	return func(line []byte) {
		_, _ = watch.Write(append(line[:len(line):len(line)], '\n'))
		if lines != nil {
			lines(line)
		}
	}
}

// A stepRequest is a request for the worker, with what is told of it when the
// command fails.
type stepRequest struct {
	worker.Request
	// user is what UID and its groups were made of, publicEnv is Env without
	// secrets and without what only this host has.
	user      string
	publicEnv []string
	// layers are those of the stages that mounts are Within.
	layers map[string]string
	// caches are what the command can have written its secrets to.
	caches []usedCache
}

// clear removes what the command has written and nobody will look at.
func (r *stepRequest) clear() error {
	var errs []error
	for _, m := range r.Mounts {
		if m.Spare != "" {
			errs = append(errs, os.RemoveAll(m.Spare))
		}
	}
	return errors.Join(errs...)
}

// request describes cmd for the worker. Release lets go of what it mounts.
func (x *stepRun) request(s state, wk *work, cmd command) (_ *stepRequest, release func() error, err error) {
	view := &rootView{Root: wk.root}
	spec := cmd.user
	if spec == "" {
		spec = s.image.Config.User
	}
	uid, gid, err := view.owner(spec)
	if err != nil {
		return nil, nil, err
	}
	r := x.run
	if err := r.b.ids.check(fmt.Sprintf("the step's user %s, who is %d:%d", spec, uid, gid), uid, gid); err != nil {
		return nil, nil, err
	}
	if !filepath.IsAbs(cmd.workdir) {
		if err := r.b.makeWorkdir(wk.root, s.image.Config.WorkingDir, uid, gid); err != nil {
			return nil, nil, err
		}
	}
	req := &stepRequest{user: spec, layers: map[string]string{}}
	req.Request = worker.Request{
		Root: wk.root.HostPath(), Scratch: wk.scratch, Runtime: r.isolation.Runtime, PIDNamespace: r.isolation.PIDNamespace,
		Args: cmd.argv, UID: uint32(uid), GID: uint32(gid), NoNetwork: cmd.noNet,
		Cwd: joinWorkdir(s.image.Config.WorkingDir, cmd.workdir), Capabilities: worker.DefaultCapabilities(),
		Mounts: cmd.add,
	}
	name, _, _ := strings.Cut(spec, ":")
	if req.Groups, err = view.processGroups(spec, gid); err != nil {
		return nil, nil, err
	}
	if r.b.ids.single {
		req.SingleID, req.MapUser = true, uid != 0 || gid != 0
	}
	if req.Env, err = x.environment(s, view, cmd, name); err != nil {
		return nil, nil, err
	}
	req.publicEnv = x.withoutHostEnv(req.Env)
	if err := x.addSecrets(req, cmd.secrets); err != nil {
		return nil, nil, err
	}
	release, err = x.addMounts(req, wk, cmd.mounts)
	return req, release, err
}

// environment is the image's, then the arguments, then the host's, then the
// command's own.
func (x *stepRun) environment(s state, view *rootView, cmd command, user string) ([]string, error) {
	c := s.clone()
	for _, env := range []map[string]string{x.run.plan.args, x.run.opt.Env} {
		for _, name := range slices.Sorted(maps.Keys(env)) {
			if _, ok := c.getenv(name); !ok {
				c.setenv(name, env[name])
			}
		}
	}
	if err := c.setenvs(cmd.env); err != nil {
		return nil, &InputError{Err: err}
	}
	if _, ok := c.getenv("APT_CONFIG"); !ok && x.run.b.ids.single {
		c.setenv("APT_CONFIG", worker.AptConfig)
	}
	if _, ok := c.getenv("HOME"); !ok {
		home, err := view.home(user)
		if err != nil {
			return nil, err
		}
		c.setenv("HOME", home)
	}
	return c.image.Config.Env, nil
}

// addSecrets adds the values of the secrets that the step names. An optional
// one that was not given is left out.
func (x *stepRun) addSecrets(req *stepRequest, uses []recipe.SecretUse) error {
	for _, use := range uses {
		value, ok := x.run.opt.Secrets[use.ID]
		if !ok {
			if x.run.plan.Recipe.Secrets[use.ID].Optional {
				continue
			}
			return &InputError{Err: fmt.Errorf("secret %q was not given", use.ID), Hint: "give its value", Code: fail.SecretMissing, Data: fail.Data{"id": use.ID}}
		}
		target := use.Target
		if target == "" {
			target = "/run/secrets/" + use.ID
		}
		req.Secrets = append(req.Secrets, worker.Secret{Target: target, Value: value})
		if use.Env != "" {
			req.Env = append(req.Env, use.Env+"="+strings.TrimRight(string(value), "\r\n"))
		}
	}
	return nil
}

// addMounts adds the mounts of a run step.
func (x *stepRun) addMounts(req *stepRequest, in *work, mounts []recipe.Mount) (release func() error, err error) {
	var works []*work
	release = func() error {
		var errs []error
		for _, wk := range works {
			errs = append(errs, wk.release())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	for _, m := range mounts {
		wm := worker.Mount{Type: "bind", Target: m.Target, Write: m.Write, Size: m.Size}
		switch {
		case m.Type == "tmpfs":
			wm.Type = "tmpfs"
		case m.Type == "cache":
			wm.Write = true
			wm.Source, err = x.cacheMount(m, in)
			if err == nil && len(req.Secrets) > 0 {
				var st unix.Stat_t
				err = unix.Stat(wm.Source+mountName, &st)
				req.caches = append(req.caches, usedCache{wm.Source, m.Target, st.Ctim})
			}
		case m.From != "":
			var wk *work
			if wk, err = x.run.b.works.create(x.run.finished()[m.From].layer); err == nil {
				works = append(works, wk)
				req.layers[wk.root.HostPath()] = wk.parent
				wm.Within, wm.Source = wk.root.HostPath(), m.Source
			}
		default:
			wm.Within, wm.Source = x.run.plan.Context, m.Source
			if m.Write { // the context stays as it is
				wm.Spare, err = in.lend()
			}
		}
		if err != nil {
			return release, fmt.Errorf("mount %s: %w", m.Target, err)
		}
		req.Mounts = append(req.Mounts, wm)
	}
	return release, nil
}

// cacheMount is a directory of the host that is kept between builds.
func (x *stepRun) cacheMount(m recipe.Mount, in *work) (string, error) {
	id := m.ID
	if id == "" {
		id = m.Target
	}
	sum := sha256.Sum256([]byte(id))
	dir := filepath.Join(x.run.b.cacheDir, "mounts", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return dir, err
	}
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, 0o755) // whatever the umask is
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, err
	}
	if err := x.setCacheOwner(dir, m, in); err != nil {
		return dir, err
	}
	// It says which mount this is, and by its time when it was last used.
	return dir, os.WriteFile(dir+mountName, []byte(x.run.secrets.Mask(id)), 0o600)
}

// setCacheOwner gives the directory of a cache the owner and the mode that the
// recipe names, also one that is there already: what is in it stays as it is.
func (x *stepRun) setCacheOwner(dir string, m recipe.Mount, in *work) error {
	if m.Owner != "" {
		uid, gid, err := (&rootView{Root: in.root}).owner(m.Owner)
		if err != nil {
			return err
		}
		if err := x.run.b.ids.check(fmt.Sprintf("owner %d:%d of the cache", uid, gid), uid, gid); err != nil {
			return err
		}
		set := os.Lchown
		if x.run.b.ids.single {
			set = ownership.Set
		}
		if err := set(dir, uid, gid); err != nil {
			return err
		}
	}
	if m.Mode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(m.Mode, 8, 32)
	if err != nil {
		return fmt.Errorf("mode %q: %w", m.Mode, err)
	}
	return unix.Chmod(dir, uint32(mode))
}
