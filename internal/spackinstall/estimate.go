package spackinstall

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// An estimate tells how long the rest of an installation takes. It simulates it: a
// package begins when its dependencies are installed and one of the slots is free,
// the one with the longest way to the end first. That is never less than the
// longest chain of packages, nor than the sum of their times divided by the slots.
type estimate struct {
	tasks map[string]*task // by hash
	slots int
}

// A task is a package that has to be installed.
type task struct {
	hash string
	// expect is how long it takes, and known whether earlier builds recorded
	// that.
	expect        time.Duration
	known, cached bool
	started       time.Time
	// done means that it is installed, gone that it will not be, since it or
	// a package that it needs has failed.
	done, gone bool
	needers    []*task
	way        time.Duration // from its start to the end of all
}

// newEstimate plans the installation of specs, of which a cache has some.
func newEstimate(specs []*spack.Spec, have map[string]bool, times packageTimes) *estimate {
	f := &estimate{tasks: map[string]*task{}, slots: 1}
	var known []time.Duration
	for _, s := range specs {
		t := &task{hash: s.Hash, cached: have[s.Hash]}
		t.expect, t.known = times.expect(s.Name, t.cached)
		switch {
		case t.cached && !t.known:
			t.expect, t.known = time.Second, true
		case !t.cached && t.known:
			known = append(known, t.expect)
		}
		f.tasks[s.Hash] = t
	}
	for _, s := range specs {
		t := f.tasks[s.Hash]
		for _, d := range s.Dependencies {
			if dep := f.tasks[d.Hash]; dep != nil && (!t.cached || d.Types&(spack.Link|spack.Run) != 0) {
				dep.needers = append(dep.needers, t)
			}
		}
	}
	f.guess(known)
	for _, t := range f.tasks {
		t.findWay()
	}
	return f
}

// guess gives packages that were never built here the median of the others.
func (f *estimate) guess(known []time.Duration) {
	if len(known) == 0 {
		return
	}
	slices.Sort(known)
	for _, t := range f.tasks {
		if !t.known {
			t.expect = known[len(known)/2]
		}
	}
}

// findWay computes the longest way. A lock file has no circles.
func (t *task) findWay() time.Duration {
	if t.way == 0 {
		t.way = 1 // visited
		var longest time.Duration
		for _, n := range t.needers {
			longest = max(longest, n.findWay())
		}
		t.way = longest + max(t.expect, 1)
	}
	return t.way
}

// start records that a package has begun.
func (f *estimate) start(hash string, now time.Time) {
	if t := f.tasks[hash]; t != nil && t.started.IsZero() {
		t.started = now
	}
}

// finish records that a package is installed.
func (f *estimate) finish(hash string) {
	if t := f.tasks[hash]; t != nil {
		t.done = true
	}
}

// giveUp records that a package, and all that need it, will not be installed.
func (f *estimate) giveUp(hash string) {
	if t := f.tasks[hash]; t != nil && !t.over() {
		t.gone = true
		for _, n := range t.needers {
			f.giveUp(n.hash)
		}
	}
}

func (t *task) over() bool { return t.done || t.gone }

// restart forgets what was running and what has failed: it is begun again.
func (f *estimate) restart() {
	for _, t := range f.tasks {
		t.started, t.gone = time.Time{}, false
	}
}

// left is the time that the rest takes; false while that would be a guess,
// because most of what is left to build has never been built here.
func (f *estimate) left(now time.Time) (time.Duration, bool) {
	known, unknown := 0, 0
	for _, t := range f.tasks {
		switch {
		case t.over() || t.cached:
		case t.known:
			known++
		default:
			unknown++
		}
	}
	if unknown > known {
		return 0, false
	}
	return f.simulate(now), true
}

// simulate returns how long the rest takes.
func (f *estimate) simulate(now time.Time) time.Duration {
	var running, ready taskHeap
	waiting := map[*task]int{} // for how many a task waits
	for _, t := range f.tasks {
		if t.over() {
			continue
		}
		for _, n := range t.needers {
			waiting[n]++
		}
	}
	for _, t := range f.tasks {
		switch {
		case t.over():
		case !t.started.IsZero():
			running = append(running, ranked{t, t.expected(now.Sub(t.started))})
		case waiting[t] == 0:
			ready = append(ready, ranked{t, -t.way})
		}
	}
	heap.Init(&running)
	heap.Init(&ready)
	var clock time.Duration
	for running.Len()+ready.Len() > 0 {
		for ready.Len() > 0 && running.Len() < f.slots {
			t := pop(&ready)
			heap.Push(&running, ranked{t.task, clock + t.expect})
		}
		next := pop(&running)
		clock = max(clock, next.rank)
		for _, n := range next.needers {
			if waiting[n]--; waiting[n] == 0 && !n.over() && n.started.IsZero() {
				heap.Push(&ready, ranked{n, -n.way})
			}
		}
	}
	return clock
}

// expected is how long a task that has run for a time goes on. One that takes
// longer than ever takes a little longer still.
func (t *task) expected(ran time.Duration) time.Duration {
	return max(t.expect-ran, ran/10)
}

// A ranked is a task with its place in a taskHeap, which has the lowest first.
type ranked struct {
	*task
	rank time.Duration
}

type taskHeap []ranked

func (h taskHeap) Len() int { return len(h) }
func (h taskHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].rank, h[j].rank), cmp.Compare(h[i].hash, h[j].hash)) < 0
}
func (h taskHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push appends a ranked.
func (h *taskHeap) Push(t any) {
	if r, ok := t.(ranked); ok {
		*h = append(*h, r)
	}
}

// Pop removes the last.
func (h *taskHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// pop takes the first.
func pop(h *taskHeap) ranked {
	first := (*h)[0]
	heap.Pop(h)
	return first
}
