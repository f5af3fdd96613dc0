package builder

import (
	"context"
	"errors"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
)

// StepCacheOptions are those of ExportSteps and ImportSteps.
type StepCacheOptions struct {
	// Secrets are searched for in what is sent; see BuildOptions.
	Secrets map[string][]byte
	// Compression of layers that are sent, as PushOptions has it.
	Compression string
	// Events receives progress; may be nil.
	Events func(Event)
}

// ExportSteps sends those steps of the plan to a step cache whose results are in
// the store, and returns how many were sent and how many the cache had.
func (b *Builder) ExportSteps(ctx context.Context, p *Plan, to StepCache, opt StepCacheOptions) (sent, had int, err error) {
	secrets := secretSet(p.Recipe, opt.Secrets)
	defer func() { err = maskError(secrets, b.hostCause("send steps", err)) }()
	if err := b.enter(ctx); err != nil {
		return 0, 0, err
	}
	r := b.stepCacheRun(p, BuildOptions{Secrets: opt.Secrets, CacheCompression: opt.Compression, Events: opt.Events})
	r.notePlanned()
	sent, had, err = r.exportTo(ctx, to)
	if err != nil && ctx.Err() != nil {
		return sent, had, context.Cause(ctx)
	}
	if err != nil && to.Repository != "" {
		err = imagetransfer.Error("push", to.Repository, err)
	}
	return sent, had, err
}

// notePlanned remembers the steps of the plan whose results are in the store.
func (r *run) notePlanned() {
	for _, stage := range r.plan.Stages {
		for _, step := range stage.Steps {
			if step.Cached && step.Key != "" {
				r.steps = append(r.steps, finishedStep{stage.Name, step.Key})
			}
		}
	}
}

// ImportSteps fetches the steps of the plan that a step cache has and the store
// has not, stage by stage up to the first step that neither has. It returns how
// many there are now, of how many.
func (b *Builder) ImportSteps(ctx context.Context, p *Plan, from StepCache, opt StepCacheOptions) (have, of int, err error) {
	defer func() { err = b.hostCause("fetch steps", err) }()
	if err := b.enter(ctx); err != nil {
		return 0, 0, err
	}
	r := b.stepCacheRun(p, BuildOptions{CacheFrom: []StepCache{from}, Events: opt.Events})
	defer r.caches.close()
	for i := range p.Stages {
		n, err := r.importStage(ctx, &p.Stages[i])
		if err != nil {
			return have, of, err
		}
		have, of = have+n, of+len(p.Stages[i].Steps)
	}
	return have, of, nil
}

// importStage fetches one stage as far as it is known, and returns how many of
// its steps are.
func (r *run) importStage(ctx context.Context, ps *PlannedStage) (int, error) {
	st := r.plan.Recipe.Stage(ps.Name)
	s, planned, err := r.b.planBase(ctx, r.plan, st, r.finished())
	if err != nil {
		return 0, err
	}
	if !planned.Cached {
		known := false
		if _, _, ok := bootstrapTool(st.From); ok {
			s, known = r.importedBase(ctx, s)
		} else {
			s, known = r.lazyBase(ctx, absoluteFrom(st.From, r.plan.Context), st)
		}
		if !known {
			return 0, ctx.Err()
		}
	}
	if s, err = startStage(s, st); err != nil {
		return 0, err
	}
	n := 1
	for ; n < len(ps.Steps); n++ {
		x := stepRun{run: r, stage: st, n: n + 1, of: len(ps.Steps)}
		planned, next, err := r.b.planStep(r.plan, st, s, ps.Steps[n].step, r.finished())
		if err != nil {
			return n, stepContext(st.Name, n+1, ps.Steps[n].Text, err)
		}
		x.planned = planned
		if !planned.Cached {
			var ok bool
			if next, ok = r.imported(ctx, s, next, &x); !ok {
				break
			}
		}
		s = next
	}
	if err := r.bring(ctx, &s); err != nil && !errors.Is(err, errStartAgain) {
		return n, err
	}
	if n == len(ps.Steps) {
		s.applyImageSettings(st)
		r.states[ps.Name] = s
	}
	return n, nil
}
