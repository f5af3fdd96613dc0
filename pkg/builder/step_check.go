package builder

import (
	"context"
	"errors"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// performCheck runs a command in the finished root, in a working layer that
// is thrown away.
func (x *stepRun) performCheck(ctx context.Context, s state, step recipe.Check) (err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wk.release()) }()
	s = s.clone()
	s.applyImageSettings(x.stage)
	req, err := x.runCommand(ctx, s, wk, command{
		argv: argv(step.Command, s.shell(x.stage)), env: step.Env, user: step.User, workdir: step.Workdir,
	})
	return x.keepFailed(ctx, failure{wk, req, s, err})
}
