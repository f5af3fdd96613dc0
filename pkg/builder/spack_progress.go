package builder

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A packageWatch turns what Spack prints into events, and remembers how long
// packages take.
type packageWatch struct {
	job      *spackJob
	times    packageTimes
	forecast *forecast
	// begun is when packages were first heard of, by hash; building are those
	// that are being built.
	begun    map[string]time.Time
	building []string
	done     map[string]bool
	progress progress.Packages
}

// newPackageWatch follows an installation to which the packages in there, hashes
// with prefixes, do not belong, since they have been installed before.
func newPackageWatch(j *spackJob, there map[string]string) *packageWatch {
	times := packageTimes{j.run.b.spackCache("times")}
	ready := maps.Clone(j.have)
	for hash := range there {
		ready[hash] = true
	}
	specs := slices.DeleteFunc(spackmirror.Needed(j.lock, ready), func(s *spack.Spec) bool { return there[s.Hash] != "" })
	return &packageWatch{
		job: j, times: times, forecast: newForecast(specs, j.have, times),
		begun: map[string]time.Time{}, done: map[string]bool{},
	}
}

// restart begins an attempt to install what is not there yet, with so many
// packages at once.
func (w *packageWatch) restart(slots int) {
	clear(w.begun)
	w.building, w.progress.Failed = nil, 0
	w.forecast.slots = slots
	w.forecast.restart()
}

func (w *packageWatch) handle(e spack.Event) {
	now := time.Now()
	id := e.Name + "@" + e.Version
	switch e.Kind {
	case spack.EventPhase:
		if w.begun[e.Hash].IsZero() {
			w.begun[e.Hash] = now
			w.forecast.start(e.Hash, now)
		}
		if e.Building() && !slices.Contains(w.building, id) {
			w.building = append(w.building, id)
			w.emit("building "+id, false)
		}
	case spack.EventInstalled:
		w.over(id)
		w.emit(id+w.installed(e, now), false)
	case spack.EventFailed:
		w.over(id)
		w.progress.Failed++
		w.forecast.giveUp(e.Hash)
		w.emit(id+" FAILED in phase "+e.Phase, true)
	default:
	}
}

func (w *packageWatch) over(id string) {
	w.building = slices.DeleteFunc(w.building, func(b string) bool { return b == id })
}

// installed notes that a package is there and says where it came from.
func (w *packageWatch) installed(e spack.Event, now time.Time) (text string) {
	w.forecast.finish(e.Hash)
	if w.forecast.tasks[e.Hash] != nil {
		w.done[e.Hash] = true
	}
	switch {
	case e.Already:
		return " is there"
	case e.FromCache:
		text = " from the binary cache"
		w.progress.FromCache++
	default:
		text = " built"
		w.progress.Built++
	}
	took := e.Time
	if begun := w.begun[e.Hash]; !begun.IsZero() {
		took = now.Sub(begun) // Spack counts whole seconds
		w.times.add(e.Name, took, e.FromCache)
	}
	if took >= time.Second {
		text += fmt.Sprintf(" in %.0f s", took.Seconds())
	}
	return text
}

func (w *packageWatch) emit(text string, failed bool) {
	total := len(w.forecast.tasks)
	p := w.progress
	p.Building = slices.Clone(w.building)
	if left, ok := w.forecast.left(time.Now()); ok {
		p.Remaining = &left
	}
	ev := w.job.event(progress.Package)
	ev.Text, ev.Failed, ev.Packages = text, failed, &p
	ev.Done, ev.Total = int64(min(len(w.done), total)), int64(total)
	w.job.run.emit(ev)
}
