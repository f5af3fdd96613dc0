package spackinstall

import (
	"encoding/json"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// packageTimes records how long packages have taken on this host, by name: a new
// version takes about as long as the old one. Each name has a file, and no result
// depends on any: one that is damaged, or that two builds write at once, costs an
// estimate.
type packageTimes struct{ dir string }

// Limits of the records.
const (
	recordedTimes = 5
	longestTime   = 30 * 24 * time.Hour
	maxTimesFile  = 4 << 10
)

// A timesFile has the last times in seconds, the newest last: those of packages
// that were built, and those that came from the binary cache.
type timesFile struct {
	Built  []float64 `json:"built,omitempty"`
	Cached []float64 `json:"cached,omitempty"`
}

func (t *timesFile) list(cached bool) *[]float64 {
	if cached {
		return &t.Cached
	}
	return &t.Built
}

func (p packageTimes) path(name string) string {
	return filepath.Join(p.dir, url.PathEscape(name)+".json")
}

func (p packageTimes) read(name string) timesFile {
	f, err := os.Open(p.path(name))
	if err != nil {
		return timesFile{}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTimesFile))
	var t timesFile
	if err != nil || json.Unmarshal(data, &t) != nil {
		return timesFile{}
	}
	for _, list := range []*[]float64{&t.Built, &t.Cached} {
		*list = slices.DeleteFunc(*list, func(s float64) bool { return s < 0 || s > longestTime.Seconds() })
	}
	return t
}

// expect returns the median of the last times, which one build beside others or
// on a cold disk does not change; false if there are none.
func (p packageTimes) expect(name string, cached bool) (time.Duration, bool) {
	t := p.read(name)
	list := *t.list(cached)
	if len(list) == 0 {
		return 0, false
	}
	slices.Sort(list)
	return time.Duration(list[len(list)/2] * float64(time.Second)), true
}

// add records a time.
func (p packageTimes) add(name string, took time.Duration, cached bool) {
	t := p.read(name)
	list := t.list(cached)
	*list = append(*list, float64(took.Milliseconds())/1000)
	if n := len(*list); n > recordedTimes {
		*list = (*list)[n-recordedTimes:]
	}
	if data, err := json.Marshal(t); err == nil {
		_ = atomicfile.Write(p.path(name), data, 0o600) // without it, the next build knows less
	}
}
