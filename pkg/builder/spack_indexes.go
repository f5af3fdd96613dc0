package builder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// lendIndexes lets Spack see what the mirrors have while it concretizes, so that
// it reuses packages of theirs, as it does when it may ask them itself. It gets
// their indexes and nothing else: the packages come to the local cache after
// that. There is no use for them where everything is known or to be new.
func (j *spackJob) lendIndexes(ctx context.Context) error {
	j.indexes = map[string]any{}
	if j.step.Concretize == "fresh" || j.knownLock() != nil {
		return nil
	}
	m := j.mirrors()
	for i, mirror := range j.in.env.Mirrors {
		if !mirror.Binary || mirror.Fetch.URL == "" {
			continue
		}
		dir := fmt.Sprint(i)
		err := m.SaveIndex(ctx, mirror, filepath.Join(j.lent, "indexes", dir))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, buildcache.ErrNotFound): // an empty cache, or one without an index
			e := j.event(progress.Info)
			e.Code = string(fail.NoIndex)
			e.Text = fmt.Sprintf("binary cache %s has no index: Spack does not reuse what is there but takes what it needs by chance", mirror.Name)
			j.run.emit(e)
		case err != nil: // fetch reports it
			j.say("binary cache %s (%s): %v; Spack concretizes without it", mirror.Name, mirror.Fetch.URL, err)
		default:
			j.indexes["index-of-"+mirror.Name] = map[string]any{
				"url": "file://" + spackLentIndex + "/" + dir, "source": false, "binary": true, "signed": false,
			}
		}
	}
	return nil
}
