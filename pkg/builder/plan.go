package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Plan works out what building r in contextDir would do: it substitutes
// arguments, hashes the files that steps copy, and looks every step up. It
// changes nothing, except that it remembers the digests of those files, and
// asks no registry; a base image that is not in the store
// leaves the keys that depend on it empty.
func (b *Builder) Plan(ctx context.Context, r *recipe.Recipe, contextDir string, opt PlanOptions) (_ *Plan, err error) {
	defer func() { err = b.hostCause("plan", err) }()
	p, err := newPlan(r, contextDir, opt)
	if err != nil {
		return nil, err
	}
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	if opt.Events != nil {
		defer b.notices.tell(opt.Events)
	}
	order, err := p.Recipe.Order(p.target)
	if err != nil {
		return nil, &InputError{Subject: "target", Err: err}
	}
	p.contents = cache.OpenContents(filepath.Join(b.cacheDir, "contents"), keyOf(p.Context, p.source, p.target))
	states := map[string]state{}
	for _, name := range order {
		st, err := b.planStage(ctx, p, p.Recipe.Stage(name), states)
		if err != nil {
			return nil, err
		}
		states[name] = st
	}
	// What is not remembered is read again: where there is no room, that is
	// for a later step to say.
	_ = p.contents.Save()
	p.Key = imageKey(states[p.target])
	if rec, ok := b.recorded(p.Key); ok && !p.noCache && b.store.Exists(rec.ImageID) && p.allCached() {
		p.Image = rec.ImageID
	}
	return p, nil
}

func newPlan(r *recipe.Recipe, contextDir string, opt PlanOptions) (*Plan, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	sub, err := r.Substitute(opt.Args)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(contextDir)
	if err != nil {
		return nil, &InputError{Subject: "context " + contextDir, Err: err}
	}
	p := &Plan{Recipe: sub, Context: dir, Platform: opt.Platform, noCache: opt.NoCache, pull: opt.Pull, args: sub.Args, source: opt.Source}
	if p.Platform == "" {
		p.Platform = "linux/" + runtime.GOARCH
	}
	if n := strings.Count(p.Platform, "/"); n < 1 || n > 2 {
		return nil, &InputError{Subject: "platform " + p.Platform, Err: errors.New("not a platform"), Hint: "it looks like linux/amd64 or linux/arm64"}
	}
	p.target = opt.Target
	if p.target == "" {
		p.target = sub.Stages[len(sub.Stages)-1].Name
	}
	if sub.Stage(p.target) == nil {
		return nil, &InputError{Subject: "target", Err: fmt.Errorf("the recipe has no stage %q", p.target), Hint: "its stages are " + strings.Join(stageNames(sub), ", ")}
	}
	p.epoch = sub.Epoch()
	return p, nil
}

func stageNames(r *recipe.Recipe) []string {
	var names []string
	for i := range r.Stages {
		names = append(names, r.Stages[i].Name)
	}
	return names
}

func (p *Plan) allCached() bool {
	for _, s := range p.Stages {
		if slices.ContainsFunc(s.Steps, func(st PlannedStep) bool { return !st.Cached }) {
			return false
		}
	}
	return true
}

func (p *Plan) time() time.Time { return time.Unix(p.epoch, 0).UTC() }

// platform of a stage.
func (p *Plan) platform(st *recipe.Stage) string {
	if st.Platform != "" {
		return st.Platform
	}
	return p.Platform
}

// planStage appends the stage to the plan and returns the state that the
// stage ends in, as far as it is known.
func (b *Builder) planStage(ctx context.Context, p *Plan, st *recipe.Stage, states map[string]state) (state, error) {
	ps := PlannedStage{Name: st.Name, From: st.From, Needs: st.Needs(p.Recipe)}
	s, base, err := b.planBase(ctx, p, st, states)
	if err != nil {
		return state{}, stepContext(st.Name, 1, "from "+st.From, err)
	}
	ps.Steps = append(ps.Steps, base)
	if s, err = startStage(s, st); err != nil {
		return state{}, err
	}
	for _, step := range stageSteps(st) {
		planned, next, err := b.planStep(p, st, s, step, states)
		if err != nil {
			return state{}, stepContext(st.Name, len(ps.Steps)+1, recipe.Summary(step), err)
		}
		if planned.source != nil {
			// The step is planned again when its turn has come.
			planned.source = &buildcontext.Source{Key: planned.source.Key}
		}
		ps.Steps, s = append(ps.Steps, planned), next
	}
	s.applyImageSettings(st)
	p.Stages = append(p.Stages, ps)
	return s, nil
}

// stepContext says where an input error comes from; text is the step in one line.
func stepContext(stage string, n int, text string, err error) error {
	var in *InputError
	if errors.As(err, &in) {
		return &InputError{Subject: fmt.Sprintf("stage %q, step %d (%s)", stage, n, text), Stage: stage, Step: n, Err: err, Hint: in.Hint}
	}
	return err
}

// planBase plans the first step of a stage.
func (b *Builder) planBase(ctx context.Context, p *Plan, st *recipe.Stage, states map[string]state) (state, PlannedStep, error) {
	step := PlannedStep{Verb: "from", Text: "from " + st.From}
	platform := p.platform(st)
	if s, ok := states[st.From]; ok {
		step.Key, step.Cached = s.key, s.known
		return s.clone(), step, nil
	}
	if st.From == "scratch" {
		s := emptyState(platform)
		s.known = true
		step.Key, step.Cached = s.key, true
		return s, step, nil
	}
	if _, _, ok := bootstrapTool(st.From); ok {
		s := emptyState(platform)
		s.key = bootstrapKey(st.From, platform, st.Bootstrap, p.epoch)
		s.record(step.Text, p.time(), true)
		if rec, ok := b.lookup(s, s.key); ok && !p.noCache && p.pull != PullAlways {
			s.layer, s.known = rec.Layer, true
		}
		step.Key, step.Cached = s.key, s.known
		return s, step, nil
	}
	pull := p.pull
	if pull == PullAlways {
		return emptyStateUnknown(platform), step, nil
	}
	s, err := b.fetchBase(ctx, absoluteFrom(st.From, p.Context), baseOptions{platform: platform, pull: pull})
	if errors.Is(err, errNotLocal) && pull != PullNever {
		return emptyStateUnknown(platform), step, nil
	}
	if err != nil {
		return state{}, step, err
	}
	s.known = true
	step.Key, step.Cached = s.key, true
	return s, step, nil
}

func emptyStateUnknown(platform string) state {
	s := emptyState(platform)
	s.key, s.partial = "", true
	return s
}

// absoluteFrom makes the path of a file transport start at the context.
func absoluteFrom(from, context string) string {
	transport, rest, ok := strings.Cut(from, ":")
	switch transport {
	case "oci", "oci-archive", "docker-archive", "dir":
		if ok && !filepath.IsAbs(rest) {
			return transport + ":" + filepath.Join(context, rest)
		}
	}
	return from
}

// startStage applies what a stage says before its first step.
func startStage(s state, st *recipe.Stage) (state, error) {
	s = s.clone()
	if err := s.setenvs(st.Env); err != nil {
		return state{}, &InputError{Subject: fmt.Sprintf("stage %q", st.Name), Err: err}
	}
	s.fixed = nil
	s.fix(maps.Keys(st.Env))
	for _, v := range compilerVariables(st.Compiler) {
		s.fixed = merged(s.fixed, map[string]string{v.Name: v.Value})
	}
	s.key = extend(s.key, "stage", jsonOf(st.Env), jsonOf(st.Shell), jsonOf(st.Compiler))
	s.docker.OnBuild = nil
	if len(st.Shell) == 0 && len(s.docker.Shell) > 0 {
		s.key = extend(s.key, "shell", jsonOf(s.docker.Shell)) // earlier versions took /bin/sh
	}
	return s, nil
}

// stageSteps are the steps in the order in which they run: as written, but
// checks last, because they look at the finished root.
func stageSteps(st *recipe.Stage) []recipe.Step {
	var steps, checks []recipe.Step
	for _, s := range st.Steps {
		if _, ok := s.(recipe.Check); ok {
			checks = append(checks, s)
		} else {
			steps = append(steps, s)
		}
	}
	if st.Workdir != "" {
		steps = append(steps, finalWorkdir{st.Workdir})
	}
	if slices.ContainsFunc(st.Steps, isEnvironment) {
		checks = append([]recipe.Step{libraryProof{}}, checks...)
	}
	if st.Compiler != nil {
		checks = append([]recipe.Step{compilerProof{*st.Compiler}}, checks...)
	}
	return append(steps, checks...)
}

// finalWorkdir makes sure that the image's working directory exists.
type finalWorkdir struct{ Path string }

// Verb is what plans and logs call the step.
func (finalWorkdir) Verb() string { return "workdir" }

func isEnvironment(s recipe.Step) bool {
	_, ok := s.(recipe.Environment)
	return ok
}

// libraryProof makes sure that what environments bring along finds its
// shared libraries in the finished root.
type libraryProof struct{}

// Verb is what plans and logs call the step.
func (libraryProof) Verb() string { return "libraries" }

// compilerProof compiles and runs a program with the image's compilers.
type compilerProof struct{ Compiler recipe.Compiler }

// Verb is what plans and logs call the step.
func (compilerProof) Verb() string { return "compiler" }

// summary is a step in one line, also for the steps that only we know.
func summary(step recipe.Step) string {
	switch s := step.(type) {
	case finalWorkdir:
		return "workdir " + s.Path
	case libraryProof:
		return "check shared libraries"
	case compilerProof:
		return strings.TrimSpace("compiler " + strings.Join([]string{s.Compiler.CC, s.Compiler.CXX, s.Compiler.FC}, " "))
	}
	return recipe.Summary(step)
}

// planStep works out the key of one step and whether its result is known.
func (b *Builder) planStep(p *Plan, st *recipe.Stage, s state, step recipe.Step, states map[string]state) (PlannedStep, state, error) {
	planned := PlannedStep{Verb: step.Verb(), Text: summary(step), step: step}
	key, err := b.stepKey(p, st, s, &planned, states)
	if err != nil {
		return planned, s, err
	}
	planned.Key = key
	next, err := configure(s, step, states)
	if err != nil {
		return planned, s, err
	}
	next.key, next.known, next.added = key, false, nil
	if rec, ok := b.lookup(s, key); ok && s.known && len(s.pending) == 0 && !p.noCache {
		if err := next.take(step, rec); err == nil {
			next.known = true
		}
	}
	if isConfigOnly(step) && s.known {
		next.known = true
	}
	planned.Cached = next.known
	return planned, next, nil
}

// lookup returns the record under key if what it speaks of is still there and
// was made on top of s.
func (b *Builder) lookup(s state, key string) (cache.Record, bool) {
	if key == "" {
		return cache.Record{}, false
	}
	rec, ok := b.recorded(key)
	if !ok {
		return rec, false
	}
	if !rec.Added {
		return rec, rec.Layer == s.layer
	}
	parent := s.layer
	for _, want := range addedLayers(rec) {
		l, err := b.store.Layer(want.ID)
		if err != nil || l.Parent != parent || l.UncompressedDigest.String() != want.DiffID {
			return rec, false
		}
		if err := b.layerThere(l.ID); err != nil {
			b.dropDamaged(key, fmt.Sprintf("layer %.12s of '%s' is damaged: %v; it is made again", l.ID, rec.Text, err))
			return rec, false
		}
		parent = l.ID
	}
	return rec, true
}

// addedLayers are the layers that a step has added, the lowest first.
func addedLayers(rec cache.Record) []cache.Layer {
	if !rec.Added {
		return nil
	}
	return append(slices.Clone(rec.Below), cache.Layer{ID: rec.Layer, DiffID: rec.DiffID, Note: rec.Note})
}

// isConfigOnly says that a step changes the configuration and no file.
func isConfigOnly(step recipe.Step) bool {
	switch step := step.(type) {
	case recipe.Env:
		return true
	case recipe.User:
		return !createsUser(step.User)
	}
	return false
}

// configure applies a step's effect on the image configuration.
func configure(s state, step recipe.Step, states map[string]state) (state, error) {
	s = s.clone()
	switch step := step.(type) {
	case recipe.Env:
		if err := s.setenvs(step.Env); err != nil {
			return s, &InputError{Err: err}
		}
		s.fix(maps.Keys(step.Env))
	case recipe.Workdir:
		s.image.Config.WorkingDir = joinWorkdir(s.image.Config.WorkingDir, step.Workdir)
	case finalWorkdir:
		s.image.Config.WorkingDir = step.Path
	case recipe.User:
		s.image.Config.User = step.User.Name
	case recipe.Environment:
		if in := states[step.From].installation(step.Name); in != nil {
			s.activate(in)
		} else {
			s.partial = true
		}
	}
	return s, nil
}

func joinWorkdir(old, dir string) string {
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return filepath.Join("/", old, dir)
}

// imageKey identifies the finished image: its files and all it says.
func imageKey(s state) string {
	parts := []string{"image", jsonOf(s.image.Config), jsonOf(s.annotations), jsonOf(s.image.Platform)}
	if s.docker.Healthcheck != nil || len(s.docker.Shell) > 0 {
		parts = append(parts, jsonOf(s.docker))
	}
	return extend(s.key, parts...)
}

// stepKey returns the key of the result that planned's step has on top of s.
func (b *Builder) stepKey(p *Plan, st *recipe.Stage, s state, planned *PlannedStep, states map[string]state) (string, error) {
	parts := []string{planned.Verb, fmt.Sprint(p.epoch)}
	switch step := planned.step.(type) {
	case finalWorkdir:
		parts = append(append(parts, jsonOf(step)), workdirOwner(st, s)...)
		return extend(s.key, parts...), nil
	case compilerProof, libraryProof:
		return extend(s.key, append(parts, jsonOf(step))...), nil
	case recipe.Workdir:
		parts = append(parts, workdirOwner(st, s)...)
	case recipe.Copy:
		source, err := p.copySource(step, states)
		if err != nil {
			return "", err
		}
		planned.source = source
		parts = append(parts, source.Key, ownerHint(st, step.Owner))
		if source.Key == "" {
			return "", nil
		}
	case recipe.File:
		parts = append(parts, ownerHint(st, step.Owner))
	case recipe.Run:
		parts = append(parts, jsonOf(p.args))
		mounts, ok, err := p.mountKeys(step, states)
		if err != nil || !ok {
			return "", err
		}
		planned.mounts = mounts
		parts = append(parts, mounts...)
	case recipe.Check:
		parts = append(parts, jsonOf(p.args))
	case recipe.Spack:
		inputs, err := spackinstall.ReadInputs(planContext{p}, step.Spack)
		if err != nil {
			return "", err
		}
		planned.spack = inputs
		parts = append(parts, inputs.Key)
	case recipe.Environment:
		in := states[step.From].installation(step.Name)
		if in == nil {
			return "", nil
		}
		parts = append(parts, in.Key(), "activation 2") // before, it had the last word
		if later := laterEnv(st, step); len(later) > 0 {
			parts = append(parts, jsonOf(later))
		}
	}
	canonical, err := recipe.CanonicalStep(whatCounts(planned.step))
	if err != nil {
		return "", fmt.Errorf("describe step: %w", err)
	}
	if planned.spack != nil {
		planned.lockKey = extend(s.key, append(slices.Clip(parts[:len(parts)-1]), planned.spack.LockKey, string(canonical))...)
	}
	return extend(s.key, append(parts, string(canonical))...), nil
}

// workdirOwner is what the key of a working directory has to know of its owner.
func workdirOwner(st *recipe.Stage, s state) []string {
	switch user := s.image.Config.User; user {
	case "", "0", "root", "0:0", "root:root":
		return nil
	default:
		return []string{ownerHint(st, user)}
	}
}

// whatCounts is a step without what does not change its result, such as how
// fast a Spack environment is built.
func whatCounts(step recipe.Step) recipe.Step {
	s, ok := step.(recipe.Spack)
	if !ok {
		return step
	}
	s.Spack.Jobs, s.Spack.ConcurrentPackages, s.Spack.KeepGoing = "", 0, false
	return s
}

// mountKeys identify what a run step sees through bind mounts. Caches and
// tmpfs do not count: what they hold must not matter.
func (p *Plan) mountKeys(step recipe.Run, states map[string]state) (keys []string, known bool, err error) {
	for _, m := range step.Mounts {
		if m.Type != "bind" {
			continue
		}
		source := m.Source
		if source == "" {
			source = "."
		}
		src, err := p.copySource(recipe.Copy{Sources: []string{source}, From: m.From, To: "/"}, states)
		if err != nil {
			return nil, false, err
		}
		if src.Key == "" {
			return nil, false, nil
		}
		keys = append(keys, src.Key)
	}
	return keys, true, nil
}
