package spackinstall

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A packageWatch turns Spack's output into events, and records how long packages
// take.
type packageWatch struct {
	job      *Job
	times    packageTimes
	estimate *estimate
	// begun is when packages were first named, by hash; building are those
	// that are being built.
	begun    map[string]time.Time
	building []string
	done     map[string]bool
	progress progress.Packages
}

// newPackageWatch follows an installation. The packages in installed, hashes with
// prefixes, do not belong to it.
func newPackageWatch(j *Job, installed map[string]string) *packageWatch {
	times := packageTimes{j.Store.Path("times")}
	ready := maps.Clone(j.cached)
	for hash := range installed {
		ready[hash] = true
	}
	specs := slices.DeleteFunc(spackmirror.Needed(j.lock, ready), func(s *spack.Spec) bool { return installed[s.Hash] != "" })
	return &packageWatch{
		job: j, times: times, estimate: newEstimate(specs, j.cached, times),
		begun: map[string]time.Time{}, done: map[string]bool{},
	}
}

// restart begins an attempt to install the rest, with so many packages at once.
func (w *packageWatch) restart(slots int) {
	clear(w.begun)
	w.building, w.progress.Failed = nil, 0
	w.estimate.slots = slots
	w.estimate.restart()
}

func (w *packageWatch) handle(e spack.Event) {
	now := time.Now()
	id := e.Name + "@" + e.Version
	switch e.Kind {
	case spack.EventPhase:
		if w.begun[e.Hash].IsZero() {
			w.begun[e.Hash] = now
			w.estimate.start(e.Hash, now)
		}
		if e.Building() && !slices.Contains(w.building, id) {
			w.building = append(w.building, id)
			w.emit("building "+id, false)
		}
	case spack.EventInstalled:
		w.stopped(id)
		w.emit(id+w.installed(e, now), false)
	case spack.EventFailed:
		w.stopped(id)
		w.progress.Failed++
		w.estimate.giveUp(e.Hash)
		w.emit(id+" FAILED in phase "+e.Phase, true)
	default:
	}
}

func (w *packageWatch) stopped(id string) {
	w.building = slices.DeleteFunc(w.building, func(b string) bool { return b == id })
}

// installed records that a package is installed and tells where it came from.
func (w *packageWatch) installed(e spack.Event, now time.Time) (text string) {
	w.estimate.finish(e.Hash)
	if w.estimate.tasks[e.Hash] != nil {
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
	total := len(w.estimate.tasks)
	p := w.progress
	p.Building = slices.Clone(w.building)
	if left, ok := w.estimate.left(time.Now()); ok {
		p.Remaining = &left
	}
	w.job.step.Emit(progress.Event{
		Kind: progress.Package, Text: text, Failed: failed, Packages: &p,
		Done: int64(min(len(w.done), total)), Total: int64(total),
	})
}
