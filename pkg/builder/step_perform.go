package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// perform does what the step says on top of s. Next is the state after the
// step save for its layer.
func (x *stepRun) perform(ctx context.Context, s, next state) (cache.Record, error) {
	switch step := x.planned.step.(type) {
	case recipe.Run:
		return x.performRun(ctx, s, step)
	case recipe.Spack:
		return x.performSpack(ctx, s, step.Spack)
	case recipe.Environment:
		return x.performEnvironment(ctx, s, step)
	case libraryProof:
		return cache.Record{Layer: s.layer}, x.proveLibraries(ctx, s)
	case recipe.Check:
		return cache.Record{Layer: s.layer}, x.performCheck(ctx, s, step)
	case compilerProof:
		return cache.Record{Layer: s.layer}, compilerHint(x.proveCompiler(ctx, s, step.Compiler))
	}
	return x.performTree(ctx, s, next)
}

// performTree does the steps that only add files: no command runs, the layer
// is written directly.
func (x *stepRun) performTree(ctx context.Context, s, next state) (_ cache.Record, err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return cache.Record{}, err
	}
	// It is only looked at, so it is clean whatever happens.
	defer func() { err = errors.Join(err, x.bench.give(wk, true)) }()
	view := &rootView{Root: wk.root, users: stageUsers(x.stage)}
	tree := &layer.Tree{}
	done := func() error { return nil }
	defer func() { err = errors.Join(err, done()) }()
	switch step := x.planned.step.(type) {
	case recipe.Copy:
		done, err = x.addCopy(ctx, view, tree, step)
	case recipe.File:
		err = addFile(view, tree, step)
	case recipe.User:
		err = addUser(view, tree, step.User)
	case recipe.Workdir, finalWorkdir:
		err = addWorkdir(view, tree, next.image.Config)
	default:
		err = &InputError{Err: fmt.Errorf("%s: %w", x.planned.Verb, ErrUnsupported)}
	}
	if err != nil {
		return cache.Record{}, err
	}
	if err := view.addParents(tree); err != nil {
		return cache.Record{}, err
	}
	return x.keepTree(ctx, s.layer, tree, layer.Options{})
}

// stageUsers are the users that a stage creates.
func stageUsers(st *recipe.Stage) []recipe.UserSpec {
	var users []recipe.UserSpec
	for _, step := range st.Steps {
		if u, ok := step.(recipe.User); ok && createsUser(u.User) {
			users = append(users, u.User)
		}
	}
	return users
}

// ownerHint is what of an owner the key has to know beside its name.
func ownerHint(st *recipe.Stage, owner string) string {
	view := &rootView{users: stageUsers(st)}
	uid, gid, err := view.fileOwner(owner)
	if err != nil {
		return owner
	}
	return fmt.Sprintf("%d:%d", uid, gid)
}
