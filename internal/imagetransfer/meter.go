package imagetransfer

import (
	"context"
	"io"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/pkg/progress"
)

// Interval is how often a transfer is reported.
const Interval = 200 * time.Millisecond

// A Meter turns what the libraries say about single blobs into progress.Transfer:
// how far the whole image is, how fast, and how long it will take.
type Meter struct {
	events func(progress.Event)
	event  progress.Event // what all have in common
	// blobs are sent on here, by the libraries or by a meteredSource.
	blobs      chan types.ProgressProperties
	stop, done chan struct{}
	// shared is set when a library sends as well, not only a meteredSource.
	shared bool

	start, reported time.Time
	// offsets are how much of each blob is done, sizes what they will be.
	offsets, sizes map[digest.Digest]int64
}

// StartMeter returns nil when events is nil; a nil Meter can be used.
// Sizes are those of the blobs where they are known before.
func StartMeter(events func(progress.Event), event progress.Event, sizes map[digest.Digest]int64) *Meter {
	if events == nil {
		return nil
	}
	m := &Meter{
		events: events, event: event, blobs: make(chan types.ProgressProperties), stop: make(chan struct{}), done: make(chan struct{}),
		start: time.Now(), offsets: map[digest.Digest]int64{}, sizes: map[digest.Digest]int64{},
	}
	m.event.Kind = progress.Transfer
	maps.Copy(m.sizes, sizes)
	go m.listen()
	return m
}

// stragglers is how long a meter listens to a library after its end: after an
// error, what reads a blob may be about to say so, and would wait for ever.
const stragglers = time.Second

func (m *Meter) listen() {
	for ended := false; !ended; {
		select {
		case p := <-m.blobs:
			m.count(p)
		case <-m.stop:
			ended = true
		}
	}
	close(m.done)
	for m.shared {
		select {
		case <-m.blobs:
		case <-time.After(stragglers):
			return
		}
	}
}

// Channel is where a library reports blobs; nil without a meter.
func (m *Meter) Channel() chan types.ProgressProperties {
	if m == nil {
		return nil
	}
	m.shared = true
	return m.blobs
}

// End waits until all is reported. The last event is always sent, so that its
// receiver gets all bytes.
func (m *Meter) End() {
	if m == nil {
		return
	}
	close(m.stop)
	<-m.done
	if m.reported.IsZero() && len(m.offsets) == 0 {
		return // all was there already
	}
	m.report(time.Now())
}

// count takes in what happened to one blob.
func (m *Meter) count(p types.ProgressProperties) {
	d := p.Artifact.Digest
	switch p.Event {
	case types.ProgressEventNewArtifact:
		if _, known := m.sizes[d]; !known && p.Artifact.Size > 0 {
			m.sizes[d] = p.Artifact.Size
		}
		m.offsets[d] = 0
		return
	case types.ProgressEventSkipped:
		delete(m.sizes, d)
		delete(m.offsets, d)
		return
	case types.ProgressEventRead, types.ProgressEventDone:
		m.offsets[d] = int64(p.Offset)
	}
	if now := time.Now(); now.Sub(m.reported) >= Interval {
		m.report(now)
	}
}

func (m *Meter) report(now time.Time) {
	e := m.event
	e.Time, e.Done, e.Total = now, 0, 0
	for d, n := range m.offsets {
		e.Done += n
		e.Total += max(n, m.sizes[d]) // a blob may be larger than was said
	}
	for d, n := range m.sizes {
		if _, begun := m.offsets[d]; !begun {
			e.Total += n
		}
	}
	if elapsed := now.Sub(m.start); elapsed >= time.Second { // before, it is a guess
		e.Rate = int64(float64(e.Done) / elapsed.Seconds())
	}
	if e.Rate > 0 && e.Done >= e.Total/100 { // the first bytes are of small things, and come slowly
		e.Remaining = time.Duration(float64(e.Total-e.Done) / float64(e.Rate) * float64(time.Second)).Round(time.Second)
	}
	m.reported = now
	m.events(e)
}

// A Metered reports what is read of an image. Buildah's push, which
// retries, has no other way to tell.
type Metered struct {
	types.ImageReference
	Meter *Meter
}

// NewImageSource opens the image.
func (r Metered) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	return &meteredSource{src, r.Meter}, nil
}

type meteredSource struct {
	types.ImageSource
	meter *Meter
}

// GetBlob opens a blob of the image.
func (s *meteredSource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	blob, size, err := s.ImageSource.GetBlob(ctx, info, cache)
	if err != nil {
		return nil, 0, err
	}
	info.Size = size
	r := &meteredBlob{ReadCloser: blob, to: s.meter, state: types.ProgressProperties{Artifact: info}}
	r.tell(types.ProgressEventNewArtifact)
	return r, size, nil
}

type meteredBlob struct {
	io.ReadCloser
	to    *Meter
	state types.ProgressProperties
	told  time.Time
}

// Read reports what it reads.
func (b *meteredBlob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.state.Offset += uint64(n)
	if err != nil || time.Since(b.told) >= Interval {
		b.tell(types.ProgressEventRead)
	}
	return n, err
}

func (b *meteredBlob) tell(e types.ProgressEvent) {
	b.told, b.state.Event = time.Now(), e
	select {
	case b.to.blobs <- b.state:
	case <-b.to.stop:
	}
}
