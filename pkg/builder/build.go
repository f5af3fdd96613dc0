package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.podman.io/storage/pkg/stringid"
	"golang.org/x/sync/errgroup"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Build executes the plan and gives the image its names. Each step's result
// is kept the moment the step ends, so whatever stops a build, the next one
// goes on from there. When ctx ends, running commands and all that they have
// started are killed, and nothing but finished results stays behind.
//
// Errors are a *StepError, *LeakError, *HostError, *RegistryError or
// *InputError, or wrap the context's error.
func (b *Builder) Build(ctx context.Context, p *Plan, opt BuildOptions) (_ *Result, err error) {
	start := time.Now()
	secrets := secretSet(p.Recipe, opt.Secrets)
	defer func() { err = maskError(secrets, b.hostCause("build", err)) }()
	if opt.Tags, err = imageNames(p.Recipe, opt.Tags); err != nil {
		return nil, err
	}
	if opt.WriteLock {
		if err := p.checkLocks(); err != nil {
			return nil, err
		}
	}
	if _, err := b.works.begin(); err != nil {
		return nil, err
	}
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	if p.Image != "" {
		return b.reuseImage(ctx, p, opt, start)
	}
	run, err := b.newRun(ctx, p, opt)
	if err != nil {
		return nil, err
	}
	defer func() {
		b.notices.tell(run.emit)
		if ctx.Err() == nil {
			b.keepLimits(ctx, b.limits, run.emit)
		}
	}()
	defer run.caches.close()
	defer run.exportSteps(ctx)
	target, err := run.target(ctx)
	if err != nil {
		return nil, err
	}
	res, err := run.commit(target)
	if err != nil {
		return nil, err
	}
	if err := b.noteOrigins(ctx, p, secrets, res.ImageID); err != nil {
		return nil, err
	}
	if err := b.failed.drop(p.source); err != nil {
		return nil, err
	}
	res.Duration = time.Since(start)
	b.tellAboutPodman(run.emit)
	return res, nil
}

// reuseImage is the build in which nothing is to be done.
func (b *Builder) reuseImage(ctx context.Context, p *Plan, opt BuildOptions, start time.Time) (*Result, error) {
	res := &Result{ImageID: p.Image, LogDir: ""}
	for _, s := range p.Stages {
		res.Cached += len(s.Steps)
		for _, step := range s.Steps {
			if !opt.WriteLock {
				break
			}
			if err := b.writeLock(p, step); err != nil {
				return nil, err
			}
		}
	}
	if err := b.describe(res, opt.Tags); err != nil {
		return nil, err
	}
	if len(opt.CacheTo) > 0 {
		r := b.stepCacheRun(p, opt)
		r.notePlanned()
		r.exportSteps(ctx)
		r.caches.close()
	}
	if err := b.noteOrigins(ctx, p, secretSet(p.Recipe, opt.Secrets), p.Image); err != nil {
		return nil, err
	}
	if err := b.failed.drop(p.source); err != nil {
		return nil, err
	}
	res.Duration = time.Since(start)
	return res, nil
}

// A run is one execution of a plan.
type run struct {
	b       *Builder
	plan    *Plan
	opt     BuildOptions
	secrets *secret.Set
	// isolation is chosen when the first command runs.
	isolation isolationChoice
	logDir    string

	mu               sync.Mutex // guards what follows
	states           map[string]state
	cached, executed int
	// steps are those found or done; done here are counted as such, also when
	// the stages start again.
	steps []finishedStep
	here  map[string]bool
	// told are the steps that were reported as cached.
	told map[string]bool

	// caches is nil where none is to be looked into.
	caches *stepCaches
	// lazyBroken stops taking base images for what their names meant first.
	lazyBroken atomic.Bool

	// slots are held by working stages; done is closed when one is finished.
	slots chan struct{}
	done  map[string]chan struct{}
}

// stepCacheRun is a run that executes nothing.
func (b *Builder) stepCacheRun(p *Plan, opt BuildOptions) *run {
	r := &run{b: b, plan: p, opt: opt, states: map[string]state{}, here: map[string]bool{}, told: map[string]bool{}}
	if len(opt.CacheFrom) > 0 {
		r.caches = &stepCaches{b: b, from: opt.CacheFrom, emit: r.emit, out: map[StepCache]bool{}, refused: map[string]bool{}}
	}
	r.secrets = secretSet(p.Recipe, opt.Secrets)
	return r
}

func (b *Builder) newRun(ctx context.Context, p *Plan, opt BuildOptions) (*run, error) {
	r := b.stepCacheRun(p, opt)
	for _, id := range r.secrets.TooShort() {
		r.emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("secret %s is so short that output and layers cannot be searched for it", id)})
	}
	r.logDir = filepath.Join(b.logDir, time.Now().UTC().Format("20060102-150405")+"-"+stringid.GenerateRandomID()[:6])
	var err error
	r.isolation, err = b.chooseIsolation(ctx, opt.Isolation)
	if err != nil {
		return nil, err
	}
	r.emit(Event{Kind: progress.Info, Text: "isolation: " + r.isolation.String()})
	layers := "made of hard links where nothing has to change"
	if !b.stages {
		layers = "copied once"
	}
	r.emit(Event{Kind: progress.Info, Text: fmt.Sprintf("storage: %s at %s, layers are %s", b.store.GraphDriverName(), b.store.GraphRoot(), layers)})
	return r, nil
}

func (r *run) emit(e Event) {
	if r.opt.Events == nil {
		return
	}
	e = maskEvent(r.secrets, e)
	e.Time = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opt.Events(e)
}

// target runs the stages and returns the state of the one that is wanted, with
// all of its layers here. When a step cache breaks its promise, it starts again:
// what is finished meanwhile is found.
func (r *run) target(ctx context.Context) (state, error) {
	for {
		err := r.stages(ctx)
		s := r.states[r.plan.target]
		if err == nil {
			err = r.bring(ctx, &s)
		}
		if !errors.Is(err, errStartAgain) || ctx.Err() != nil {
			return s, err
		}
		r.states, r.steps, r.cached = map[string]state{}, nil, 0
	}
}

// stages runs the planned stages side by side. A stage waits for another one
// where it first needs it, and lets others work meanwhile.
func (r *run) stages(ctx context.Context) error {
	jobs := r.opt.Jobs
	if jobs <= 0 {
		jobs = runtime.NumCPU()
	}
	r.slots = make(chan struct{}, jobs)
	r.done = map[string]chan struct{}{}
	for _, s := range r.plan.Stages {
		r.done[s.Name] = make(chan struct{})
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range r.plan.Stages {
		ps := &r.plan.Stages[i]
		g.Go(func() error {
			if err := r.acquire(ctx); err != nil {
				return err
			}
			defer func() { <-r.slots }()
			if err := r.stage(ctx, ps); err != nil {
				return err
			}
			close(r.done[ps.Name])
			return nil
		})
	}
	return g.Wait()
}

func (r *run) acquire(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await waits until the stages are finished; names that are no stages count
// as finished. It is called with a slot, which is free while it waits.
func (r *run) await(ctx context.Context, stages ...string) error {
	for _, name := range stages {
		done, ok := r.done[name]
		if !ok {
			continue
		}
		select {
		case <-done:
			continue
		default:
		}
		<-r.slots
		var err error
		select {
		case <-done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		// A slot is always taken again: our caller gives it back.
		r.slots <- struct{}{}
		if err != nil {
			return err
		}
	}
	return nil
}

// stage runs the steps of one stage that are not known.
func (r *run) stage(ctx context.Context, ps *PlannedStage) (err error) {
	start := time.Now()
	r.emit(Event{Kind: progress.StageStart, Stage: ps.Name, Steps: len(ps.Steps), Text: ps.From})
	defer func() {
		r.emit(ended(ctx, Event{Kind: progress.StageEnd, Stage: ps.Name, Steps: len(ps.Steps)}, start, err))
	}()
	st := r.plan.Recipe.Stage(ps.Name)
	if err := r.await(ctx, st.From); err != nil {
		return err
	}
	s, err := r.base(ctx, ps, st)
	if err != nil {
		return err
	}
	if triggers := s.docker.OnBuild; len(triggers) > 0 {
		r.emit(Event{Kind: progress.Warning, Stage: ps.Name, Text: fmt.Sprintf("the base image %s has ONBUILD triggers, which are not run: write them as steps of stage %q if they are wanted: %q", st.From, ps.Name, triggers)})
	}
	if s, err = startStage(s, st); err != nil {
		return err
	}
	bench := &bench{owner: r.b.works}
	defer func() { err = errors.Join(err, bench.clear()) }()
	for i := 1; i < len(ps.Steps); i++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if s, err = r.step(ctx, stepRun{run: r, stage: st, bench: bench, planned: ps.Steps[i], n: i + 1, of: len(ps.Steps)}, s); err != nil {
			return err
		}
	}
	s.applyImageSettings(st)
	r.mu.Lock()
	r.states[ps.Name] = s
	r.mu.Unlock()
	return nil
}

// finished returns a copy of the states of finished stages.
func (r *run) finished() map[string]state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.states)
}

// count counts a step for the result.
func (r *run) count(cached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cached {
		r.cached++
	} else {
		r.executed++
	}
}

// note remembers a step for the step caches.
func (r *run) note(x stepRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, finishedStep{x.stage.Name, x.planned.Key})
}

// doneHere remembers that a step was done in this build.
func (r *run) doneHere(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.here[key] = true
}

// foundCached reports and counts a step that was found, unless it was done or
// reported in this build before its stages started again.
func (x *stepRun) foundCached(key string) {
	r, id := x.run, fmt.Sprintf("%s/%d", x.stage.Name, x.n)
	r.mu.Lock()
	done, told := r.here[key], r.told[id]
	r.told[id] = true
	r.mu.Unlock()
	if !done {
		r.count(true)
	}
	if !done && !told {
		r.emit(x.event(progress.StepCached))
	}
}

// A stepRun is one step being run.
type stepRun struct {
	run     *run
	stage   *recipe.Stage
	bench   *bench
	planned PlannedStep
	n, of   int
	// log is the step's log, if a command has run.
	log string
	// buildDirectory is set when the container of the failed step has the
	// directory of a build.
	buildDirectory bool
	// made are the layers that no record names yet.
	made []*work
}

func (x *stepRun) event(kind progress.Kind) Event {
	return Event{Kind: kind, Stage: x.stage.Name, Step: x.n, Steps: x.of, Text: x.planned.Text}
}

// ended completes the event about the end of a step or a stage. Whatever breaks
// once ctx has ended was stopped, see explain.
func ended(ctx context.Context, e Event, start time.Time, err error) Event {
	e.Duration = time.Since(start)
	e.Stopped = err != nil && ctx.Err() != nil
	e.Failed = err != nil && !e.Stopped
	return e
}

// step brings s past one step: from the cache, or by doing it.
func (r *run) step(ctx context.Context, x stepRun, s state) (state, error) {
	if err := r.await(ctx, stepNeeds(x.planned.step)...); err != nil {
		return s, err
	}
	planned, next, err := r.b.planStep(r.plan, x.stage, s, x.planned.step, r.finished())
	if err != nil {
		return s, stepContext(x.stage.Name, x.n, x.planned.Text, err)
	}
	if err := sameContext(x.planned, planned); err != nil {
		return s, stepContext(x.stage.Name, x.n, x.planned.Text, err)
	}
	x.planned = planned
	if !planned.Cached {
		if known, ok := r.imported(ctx, s, next, &x); ok {
			r.note(x)
			x.foundCached(planned.Key)
			known.recordStep(planned.Text, r.plan.time())
			return known, nil
		}
		if err := errors.Join(r.bring(ctx, &s), r.bringStages(ctx, x.takesFrom()...)); err != nil {
			return s, err
		}
		unlock, err := r.b.steps.Lock(ctx, planned.Key)
		if err != nil {
			return s, err
		}
		defer unlock()
		// Another build may have done it while we waited.
		if planned, next, err = r.b.planStep(r.plan, x.stage, s, x.planned.step, r.finished()); err != nil {
			return s, err
		}
		x.planned = planned
	}
	r.b.notices.tell(r.emit)
	r.note(x)
	if planned.Cached {
		x.foundCached(planned.Key)
	} else if err = x.execute(ctx, s, &next); err != nil {
		return s, err
	}
	if r.opt.WriteLock {
		if err := r.b.writeLock(r.plan, planned); err != nil {
			return s, err
		}
	}
	next.known = true
	next.recordStep(planned.Text, r.plan.time())
	return next, nil
}

// stepNeeds names the stages that a step takes something from.
func stepNeeds(step recipe.Step) []string {
	var needs []string
	switch step := step.(type) {
	case recipe.Copy:
		needs = append(needs, step.From)
	case recipe.Environment:
		needs = append(needs, step.From)
	case recipe.Run:
		for _, m := range step.Mounts {
			needs = append(needs, m.From)
		}
	}
	return needs
}

// execute does the step and keeps its result.
func (x *stepRun) execute(ctx context.Context, s state, next *state) (err error) {
	r, start := x.run, time.Now()
	r.emit(x.event(progress.StepStart))
	defer func() { r.emit(ended(ctx, x.event(progress.StepEnd), start, err)) }()
	r.count(false)
	rec, err := x.perform(ctx, s, *next)
	if err == nil {
		err = x.searchRecord(&rec)
	}
	if err == nil {
		r.doneHere(x.planned.Key)
		rec.Took = time.Since(start)
		err = r.b.steps.Put(x.planned.Key, rec)
	}
	if settleErr := x.settle(err == nil); settleErr != nil {
		err = errors.Join(err, settleErr)
	}
	if err != nil {
		return x.explain(ctx, err)
	}
	return next.take(x.planned.step, rec)
}

// explain turns whatever went wrong in a step into an error that names it.
func (x *stepRun) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var step *StepError
	var leak *LeakError
	var host *HostError
	var input *InputError
	var reg *RegistryError
	switch {
	case errors.As(err, &step), errors.As(err, &reg):
		return err
	case errors.As(err, &host) && host.Topic == string(hosthelp.SmallRange):
		return x.beyond(host)
	case errors.As(err, &host):
		return err
	case errors.As(err, &leak):
		return x.leaked(*leak)
	case errors.As(err, &input):
		return stepContext(x.stage.Name, x.n, x.planned.Text, err)
	}
	hint, code := hintFor(err)
	return &StepError{Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: -1, Hint: hint, Code: code, Err: err}
}

// logPath is the file of one of the step's logs. What it is of may come from
// the output of a command, and versions of packages may have slashes.
func (x *stepRun) logPath(of string) string {
	name := fmt.Sprintf("%s-%02d-%s.log", x.stage.Name, x.n, of)
	return filepath.Join(x.run.logDir, strings.ReplaceAll(x.run.secrets.Mask(name), "/", "-"))
}

// logFile makes the log of this step.
func (x *stepRun) logFile() (*os.File, error) {
	if err := os.MkdirAll(x.run.logDir, 0o700); err != nil {
		return nil, err
	}
	x.log = x.logPath(x.planned.Verb)
	return os.OpenFile(x.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
