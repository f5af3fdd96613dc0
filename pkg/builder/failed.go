package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/internal/worker"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// failedSteps keeps the working layer of the last step that failed, one for
// each recipe, so that one can look inside.
type failedSteps struct {
	works *works
	dir   string
}

// A failedStep is what is known of a kept container. Values of secrets are
// not.
type failedStep struct {
	// Source is the recipe's file, Layer the id of the working layer.
	Source  string
	Layer   string
	Stage   string
	Step    int
	Text    string
	Time    time.Time
	Args    []string
	Env     []string
	User    string
	Cwd     string
	NoNet   bool
	Mounts  []failedMount
	Secrets bool
	// Links are the owners of symbolic links and the like; see savedLinks.
	Links []byte `json:",omitempty"`
	// NotKept is why there is no container; then Layer is "", and the rest is
	// not known.
	NotKept string

	owner *failedSteps
	path  string
}

// A failedMount is one mount of the step. One of another stage is found in
// that stage's layer again.
type failedMount struct {
	Mount worker.Mount
	Layer string
}

func openFailedSteps(w *works, dir string) (*failedSteps, error) {
	f := &failedSteps{works: w, dir: dir}
	w.kept = f.remaining
	return f, os.MkdirAll(dir, 0o700)
}

// keepFailedFor is how long the container of a failed step is kept at most.
const keepFailedFor = 7 * 24 * time.Hour

// remaining are the ids of what is kept, after what nobody will look for any
// more was removed: the recipe is gone, or a week is over.
func (f *failedSteps) remaining() map[string]bool {
	ids := map[string]bool{}
	for _, path := range f.records() {
		s, err := f.read(path)
		if err != nil {
			continue
		}
		_, statErr := os.Stat(s.Source)
		if errors.Is(statErr, fs.ErrNotExist) || time.Since(s.Time) > keepFailedFor {
			_, _ = f.dropRecord(path) // the next build tries again
			continue
		}
		if s.Layer != "" {
			ids[s.Layer] = true
		}
	}
	return ids
}

func (f *failedSteps) records() []string {
	paths, _ := fs.Glob(os.DirFS(f.dir), "*.json") // the pattern is right
	for i := range paths {
		paths[i] = filepath.Join(f.dir, paths[i])
	}
	return paths
}

// path of the record of a recipe.
func (f *failedSteps) path(source string) string {
	return filepath.Join(f.dir, keyOf("failed", source)[:24]+".json")
}

func (f *failedSteps) read(path string) (*failedStep, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &failedStep{owner: f, path: path}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// put keeps wk as s and lets go of what the recipe had before. Wk is nil where
// there is only something to be said.
func (f *failedSteps) put(source string, s failedStep, wk *work) error {
	path := f.path(source)
	old, _ := f.read(path) // none, or one that cannot be read
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temporary, err := f.works.begin()
	if err != nil {
		return err
	}
	record := func() error {
		// From the record on, nobody removes the layer: it comes first.
		if err := atomicfile.WriteIn(temporary, path, data, 0o600); err != nil || wk == nil {
			return err
		}
		return wk.park()
	}
	if old == nil || old.Layer == "" {
		return record()
	}
	return f.works.discard(old.Layer, record)
}

// drop removes what is kept of a recipe, if anything is.
func (f *failedSteps) drop(source string) error {
	_, err := f.dropRecord(f.path(source))
	return err
}

// dropRecord removes a record, and reports whether there was a container.
func (f *failedSteps) dropRecord(path string) (bool, error) {
	s, err := f.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || s.Layer == "" {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, f.works.discard(s.Layer, func() error { return os.Remove(path) })
}

// discard removes a parked working layer after its record was removed or replaced,
// or leaves that to the one who uses it now.
func (w *works) discard(id string, unrecord func() error) error {
	wk, err := w.tryReserve(id)
	if err != nil && !errors.Is(err, lockfile.ErrHeld) {
		return fmt.Errorf("remove the container of a failed step: %w", err)
	}
	unrecordErr := unrecord()
	if unrecordErr != nil {
		unrecordErr = fmt.Errorf("remove the record of a failed step: %w", unrecordErr)
	}
	if err != nil {
		return unrecordErr
	}
	wk.parked, wk.shared = true, unrecordErr != nil
	return errors.Join(unrecordErr, wk.release())
}

// leave ends the use of a kept container.
func (s *failedStep) leave(wk *work) error {
	now, err := s.owner.read(s.path)
	if err != nil || now.Layer != s.Layer {
		return wk.release() // a build has replaced it meanwhile
	}
	return wk.park()
}

// RemoveFailed removes the containers of failed steps, and returns how many
// there were.
func (b *Builder) RemoveFailed(ctx context.Context) (removed int, err error) {
	defer func() { err = b.hostCause("remove the containers of failed steps", err) }()
	for _, path := range b.failed.records() {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		ok, err := b.failed.dropRecord(path)
		if err != nil {
			return removed, err
		}
		if ok {
			removed++
		}
	}
	return removed, nil
}

// FailedContainer opens the container in which the last build of a recipe has
// failed, as the step has left it: with its files, in its directory, with its
// environment but for secrets. Source is that of PlanOptions. What is changed in
// it stays for the next look, and is no part of any build. Close it.
func (b *Builder) FailedContainer(ctx context.Context, source string, opt ContainerOptions) (_ *Container, err error) {
	defer func() { err = b.hostCause("open the container of the failed step", err) }()
	s, err := b.failed.read(b.failed.path(source))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &InputError{Err: fmt.Errorf("no step of %s has failed, or it was built since", source), Hint: "look into a stage, or into an image", Code: fail.NoFailedStep}
	}
	if err != nil {
		return nil, err
	}
	if s.Layer == "" {
		return nil, &InputError{Err: fmt.Errorf("stage %q, step %d (%s) failed, and %s", s.Stage, s.Step, s.Text, s.NotKept), Hint: "look into the stage as far as it was built", Code: fail.NotKept}
	}
	wk, err := b.works.adopt(s.Layer)
	if errors.Is(err, lockfile.ErrHeld) {
		return nil, &InputError{Subject: "the container of the failed step", Err: err, Hint: "end the other shell first"}
	}
	if err != nil {
		return nil, fmt.Errorf("open the container of the failed step: %w", err)
	}
	c := &Container{b: b, wk: wk, failed: s}
	if err := errors.Join(wk.restoreLinks(s.Links), c.addFailedMounts(opt)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	opt.NoNetwork = opt.NoNetwork || s.NoNet
	opt.tell(fmt.Sprintf("this is stage %q, step %d as it failed: %s", s.Stage, s.Step, s.Text))
	if s.Secrets {
		opt.tell("the step's secrets are not here")
	}
	return c.prepared(ctx, v1.ImageConfig{Env: s.Env, User: s.User, WorkingDir: s.Cwd}, opt)
}

// addFailedMounts brings the step's mounts back. Directories of the host that
// are gone, such as temporary ones, are left out.
func (c *Container) addFailedMounts(opt ContainerOptions) error {
	for _, m := range c.failed.Mounts {
		wm := m.Mount
		if m.Layer != "" {
			wk, err := c.b.works.create(m.Layer)
			if err != nil {
				return err
			}
			c.after = append(c.after, wk.release)
			wm.Within = wk.root.HostPath()
		}
		if wm.Type == "bind" {
			source, err := wm.Open()
			if err != nil {
				opt.tell(fmt.Sprintf("the step's mount at %s is not here: %v", wm.Target, err))
				continue
			}
			_ = source.Close() // only looked at
		}
		c.mounts = append(c.mounts, wm)
	}
	return nil
}

func (opt ContainerOptions) tell(text string) {
	if opt.Events != nil {
		opt.Events(Event{Kind: progress.Warning, Time: time.Now(), Text: text})
	}
}

// A failure is a command that did not succeed.
type failure struct {
	wk    *work
	req   *stepRequest
	state state // the stage's, under the working layer
	err   error
}

// keepFailed keeps the container of a command that has failed, and passes the
// error on. A container in which a secret was written somewhere is not kept,
// and neither is one whose disk is full.
func (x *stepRun) keepFailed(ctx context.Context, f failure) error {
	var step *StepError
	var start *CommandError
	switch {
	case f.err == nil || ctx.Err() != nil || f.req == nil:
		return f.err
	case errors.As(f.err, &step):
	case errors.As(f.err, &start):
		step = &StepError{Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: -1, Err: f.err}
		if x.lacksShell(f) {
			step.Err = fmt.Errorf("the stage has no %s", f.req.Args[0])
			step.Hint = "write the command as a list, such as [/app, --version], or start the stage from an image that has a shell"
			step.NotKept = notKeptNoShell
			x.noteNotKept(notKeptNoShell)
			return step
		}
	default:
		return f.err
	}
	if x.run.plan.source == "" {
		return step
	}
	record := failedStep{
		Source: x.run.plan.source, Layer: f.wk.id, Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, Time: time.Now().UTC(),
		Args: f.req.Args, Env: f.req.publicEnv, User: f.req.user, Cwd: f.req.Cwd, NoNet: f.req.NoNetwork, Secrets: len(f.req.Secrets) > 0,
	}
	var err error
	if record.Links, err = f.wk.savedLinks(); err != nil {
		return errors.Join(step, err)
	}
	for _, m := range f.req.Mounts {
		record.Mounts = append(record.Mounts, failedMount{m, f.req.layers[m.Within]})
	}
	if step.NotKept = x.notKept(f, step, record); step.NotKept != "" {
		x.noteNotKept(step.NotKept)
		return step
	}
	// What fails here leaves it a layer, which is of use to 'shell --failed' alone.
	if err := x.makeContainer(ctx, f, record); err != nil {
		info := x.event(progress.Info)
		info.Text = fmt.Sprintf("buildah cannot use the container of the failed step: %v", err)
		x.run.emit(info)
	}
	if err := x.run.b.failed.put(x.run.plan.source, record, f.wk); err != nil {
		x.run.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("the container of the failed step is not kept: %v", err)})
		return step
	}
	step.Kept = true
	if x.buildDirectory {
		step.Code = fail.BuildDirectory
	}
	return step
}

// Why the container of a failed step is not kept.
const (
	notKeptSecret  = "its container was not kept because it held a secret"
	notKeptUnread  = "its container was not kept because it could not be searched for secrets"
	notKeptNoShell = "its container was not kept because there is no shell to look inside with"
	notKeptFull    = "its container was not kept because the disk is full"
)

// notKept is why the container of a failed command is not kept, "" if it is.
func (x *stepRun) notKept(f failure, step *StepError, record failedStep) string {
	if slices.ContainsFunc(step.Tail, func(l string) bool { return strings.Contains(l, "No space left on device") }) {
		return notKeptFull
	}
	data, err := json.Marshal(record)
	if err == nil && len(f.req.Secrets) > 0 {
		err = x.searchChanges(f)
	}
	var leak *LeakError
	switch {
	case errors.As(err, &leak), x.run.secrets.Mask(string(data)) != string(data):
		return notKeptSecret
	case err != nil:
		return notKeptUnread
	}
	return ""
}

// lacksShell reports whether a command is for a shell that its stage does not
// have: then there is none to look inside with either.
func (x *stepRun) lacksShell(f failure) bool {
	shell := argv(recipe.Script(""), x.stage.Shell)[0]
	if f.req.Args[0] != shell || !filepath.IsAbs(shell) {
		return false
	}
	_, err := f.wk.root.Stat(shell)
	return errors.Is(err, fs.ErrNotExist)
}

// noteNotKept lets 'shell --failed' say why there is nothing to look into. It is
// no more than a message, so that a build does not fail for want of it.
func (x *stepRun) noteNotKept(why string) {
	if x.run.plan.source == "" {
		return
	}
	_ = x.run.b.failed.put(x.run.plan.source, failedStep{
		Source: x.run.plan.source, Stage: x.run.secrets.Mask(x.stage.Name), Step: x.n, Text: x.run.secrets.Mask(x.planned.Text),
		Time: time.Now().UTC(), NotKept: why,
	}, nil)
}

// searchChanges searches what the command has changed. A *LeakError says that
// there is a secret in it.
func (x *stepRun) searchChanges(f failure) error {
	in, err := x.run.inspector(f.state.layer)
	if err != nil {
		return err
	}
	opt := f.wk.differences(layer.Options{Epoch: x.run.plan.time(), Inspect: in})
	tree, err := f.wk.changes()
	if err != nil {
		return err
	}
	_, err = tree.Encode(io.Discard, opt)
	return err
}

// withoutHostEnv leaves out what the host's environment has added: a proxy's
// password, for example, must not be stored.
func (x *stepRun) withoutHostEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		host, ok := x.run.opt.Env[name]
		return ok && host == value
	})
}
