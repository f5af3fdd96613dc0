package spackinstall

import (
	"context"
	"errors"
	"os"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Forecast tells how much of a spack step that is only planned binary caches
// have. Key is the step's, "" if it is not known yet.
func (in *Inputs) Forecast(ctx context.Context, m *spackmirror.Mirrors, step recipe.SpackInstall, key string) (*spackmirror.Forecast, error) {
	unknown := &spackmirror.Forecast{Hint: "the first build works out what the environment needs and keeps that"}
	data, name := in.lock, spack.LockFileName
	if data == nil && key != "" {
		var err error
		name = LockPath(m.Store, key)
		if data, err = os.ReadFile(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if data == nil {
		return unknown, nil
	}
	lock, err := spack.ParseLock(name, data)
	if err != nil {
		if in.lock == nil {
			return unknown, nil // a record of an earlier build; it is made again
		}
		return nil, &failure.InputError{Err: err, Hint: "remove it, or let 'spack concretize' write it anew"}
	}
	installed, known := readInstalled(m.Store, key)
	f, err := m.Forecast(ctx, lock, in.mirrors, installed)
	if err == nil && !known && in.mayHaveUpstreams(step) {
		f.Hint = "packages of its upstreams are counted, too: the first build looks which these have"
	}
	return f, err
}
