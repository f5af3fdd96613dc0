package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// saveIndexes gives Spack the indexes of the mirrors while it concretizes, so that
// it reuses their packages, as it does when it asks them itself. It gets nothing
// else: packages come to the local cache afterwards. It needs no index where all
// is known already, or has to be new.
func (j *Job) saveIndexes(ctx context.Context) error {
	j.indexes = map[string]any{}
	if j.Recipe.Concretize == "fresh" || j.knownLock() != nil {
		return nil
	}
	for i, mirror := range j.mirrors {
		if !mirror.Binary || mirror.Fetch.URL == "" {
			continue
		}
		dir := fmt.Sprint(i)
		err := j.Mirrors.SaveIndex(ctx, mirror, filepath.Join(j.HostDir, "indexes", dir))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, buildcache.ErrNotFound): // an empty cache, or one without an index
			j.step.Emit(progress.Event{
				Kind: progress.Info, Code: string(failure.NoIndex),
				Text: fmt.Sprintf("binary cache %s has no index: Spack does not reuse what is there but takes what it needs by chance", mirror.Name),
			})
		case err != nil: // fetch reports it
			j.report("binary cache %s (%s): %v; Spack concretizes without it", mirror.Name, mirror.Fetch.URL, err)
		default:
			j.indexes["index-of-"+mirror.Name] = map[string]any{
				"url": "file://" + mountIndexes + "/" + dir, "source": false, "binary": true, "signed": false,
			}
		}
	}
	return nil
}
