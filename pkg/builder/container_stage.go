package builder

import (
	"context"
	"fmt"
	"strings"

	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// StageContainer opens a stage of the plan as far as it is built: after its
// last step, or the last one whose result is known. Close it.
func (b *Builder) StageContainer(ctx context.Context, p *Plan, stage string, opt ContainerOptions) (_ *Container, err error) {
	defer func() { err = b.hostCause("make a container of stage "+stage, err) }()
	if stage == "" {
		stage = p.target
	}
	if p.Recipe.Stage(stage) == nil {
		return nil, &InputError{Err: fmt.Errorf("the recipe has no stage %q", stage), Hint: "its stages are " + strings.Join(stageNames(p.Recipe), ", ")}
	}
	order, err := p.Recipe.Order(stage)
	if err != nil {
		return nil, &InputError{Subject: "stage " + stage, Err: err}
	}
	states := map[string]state{}
	for _, name := range order[:len(order)-1] {
		scratch := *p // planning adds a stage to a plan, which p has already
		scratch.Stages = nil
		if states[name], err = b.planStage(ctx, &scratch, p.Recipe.Stage(name), states); err != nil {
			return nil, err
		}
	}
	s, done, of, err := b.knownPart(ctx, p, stage, states)
	if err != nil {
		return nil, err
	}
	if done == 0 {
		return nil, &InputError{Err: fmt.Errorf("nothing of stage %q is built yet", stage), Hint: "build it", Code: fail.StageNotBuilt, Data: fail.Data{"stage": stage}}
	}
	if done < of {
		opt.tell(fmt.Sprintf("stage %q is built up to step %d of %d: this is what it has then", stage, done, of))
	}
	c := &Container{b: b}
	if c.wk, err = b.works.create(s.layer); err != nil {
		return nil, err
	}
	return c.prepared(ctx, s.image.Config, opt)
}

// knownPart is the state after the last step of a stage whose result is known,
// how many steps that are, and of how many.
func (b *Builder) knownPart(ctx context.Context, p *Plan, stage string, states map[string]state) (s state, done, of int, err error) {
	st := p.Recipe.Stage(stage)
	steps := stageSteps(st)
	of = len(steps) + 1
	s, base, err := b.planBase(ctx, p, st, states)
	if err != nil || !base.Cached {
		return s, 0, of, err
	}
	if s, err = startStage(s, st); err != nil {
		return s, 0, of, err
	}
	for i, step := range steps {
		planned, next, err := b.planStep(p, st, s, step, states)
		if err != nil {
			return s, 0, of, stepContext(stage, i+2, recipe.Summary(step), err)
		}
		if !planned.Cached {
			return s, i + 1, of, nil
		}
		s = next
	}
	s.applyImageSettings(st)
	return s, of, of, nil
}
