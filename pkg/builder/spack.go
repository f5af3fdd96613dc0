package builder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/pkg/cache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// performSpack installs a Spack environment in a working layer. The changes are
// the step's layer, and the description of the installation its record's Data.
func (x *stepRun) performSpack(ctx context.Context, s state, step recipe.SpackInstall) (rec cache.Record, err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, false)) }()
	run := &spackStep{stepRun: x, s: s, wk: wk}
	job, err := run.job(step)
	if err != nil {
		return cache.Record{}, err
	}
	written, err := x.run.b.spackStore().BeginWrite(ctx)
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { written(err == nil) }()
	if err := job.Install(ctx); err != nil {
		return cache.Record{}, run.keepFailed(ctx, job, err)
	}
	in, err := job.Describe(ctx)
	if err != nil {
		return cache.Record{}, err
	}
	opt, err := x.diffOptions(wk, &run.request.Request)
	if err != nil {
		return cache.Record{}, err
	}
	// Compiled files have the times of their compilation, those from a binary
	// cache have none: the same packages have to be the same files.
	opt.OneTime = true
	wk.closed = x.run.isolation.PIDNamespace
	if rec, err = x.keepDiff(ctx, s.layer, wk, opt); err != nil {
		return cache.Record{}, err
	}
	in.SetBuild(rec.DiffID)
	rec.Data, err = json.Marshal(in)
	return rec, err
}

// emit reports progress of the step.
func (x *stepRun) emit(e progress.Event) {
	e.Stage, e.Step, e.Steps = x.stage.Name, x.n, x.of
	x.run.emit(e)
}

// A spackStep runs the commands of a spack step in a working layer; see
// spackinstall.Step.
type spackStep struct {
	*stepRun
	s  state
	wk *work
	// request is that of the last command.
	request *stepRequest
}

func (p *spackStep) job(step recipe.SpackInstall) (*spackinstall.Job, error) {
	dir, err := p.wk.lend()
	if err != nil {
		return nil, err
	}
	r := p.run
	m := r.b.mirrors(step, ForecastOptions{Env: r.opt.Env, Secrets: r.opt.Secrets, Variable: r.opt.Variable})
	m.Report = func(text string) { p.Emit(progress.Event{Kind: progress.Info, Text: text}) }
	m.Warn = func(text string) { p.Emit(progress.Event{Kind: progress.Warning, Text: text}) }
	m.Pending = func(text string) {
		p.Emit(progress.Event{Kind: progress.Warning, Text: text, Code: string(fail.PushPending)})
	}
	return spackinstall.New(p, spackinstall.Settings{
		Recipe: step, Inputs: p.planned.spack, LockKey: p.planned.lockKey, Store: m.Store, Mirrors: m, HostDir: dir,
		Getenv: p.s.getenv, Temporary: r.b.works.begin, CheckSources: r.b.soundSources, ShowWarnings: func() { r.b.notices.tell(r.emit) },
	}), nil
}

// keepFailed keeps the container of a failed step, in which a shell begins in the
// build directory of the failed package.
func (p *spackStep) keepFailed(ctx context.Context, job *spackinstall.Job, err error) error {
	dir, built := job.Failed()
	if dir != "" {
		p.request.Cwd = dir
	}
	p.buildDirectory = built
	return p.stepRun.keepFailed(ctx, failure{p.wk, p.request, p.s, err})
}

// Run runs a command as root in the working layer.
func (p *spackStep) Run(ctx context.Context, c spackinstall.Command) ([]string, error) {
	req, err := p.runCommand(ctx, p.s, p.wk, command{
		argv: c.Args, env: c.Env, user: "0", workdir: "/", noNet: c.NoNetwork, add: c.Mounts, watch: c.Output,
	})
	p.request = req
	if req == nil {
		return nil, err
	}
	return req.Env, err
}

// Root is the working layer.
func (p *spackStep) Root() *rootfs.Root { return p.wk.root }

// Emit reports progress of the step.
func (p *spackStep) Emit(e progress.Event) { p.emit(e) }

// SaveLog keeps a log beside the step's own, and returns its file.
func (p *spackStep) SaveLog(name string, log io.Reader) string {
	file := p.logPath(name)
	dst, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return ""
	}
	masked := p.run.mask(dst)
	_, err = io.Copy(masked, log)
	if errors.Join(err, masked.Close(), dst.Close()) != nil {
		return ""
	}
	return file
}

// A planContext is the build context of a plan; see spackinstall.Context.
type planContext struct{ *Plan }

// Dir is the context's directory.
func (c planContext) Dir() string { return c.Context }

// ReadFile returns the contents of a file.
func (c planContext) ReadFile(name string) (_ []byte, err error) {
	root, err := os.OpenRoot(c.Context)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return root.ReadFile(strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/"))
}

// Files looks at a file or a directory.
func (c planContext) Files(name string, exclude ...string) (spackinstall.Files, error) {
	src, err := c.copySource(recipe.Copy{Sources: []string{name}, Exclude: exclude}, nil)
	if err != nil {
		return nil, err
	}
	return &contextFiles{src, c.Context}, nil
}

// contextFiles are files of a build context; see spackinstall.Files.
type contextFiles struct {
	*buildcontext.Source
	context string
}

// Key identifies names and contents.
func (f *contextFiles) Key() string { return f.Source.Key }

// Names are the paths below the directory.
func (f *contextFiles) Names() []string {
	names := make([]string, len(f.Files))
	for i := range f.Files {
		names[i] = f.Files[i].Rel
	}
	return names
}

// Write writes the files into a root.
func (f *contextFiles) Write(root *rootfs.Root, dir string) error {
	return f.Source.Write(f.context, root, dir)
}
