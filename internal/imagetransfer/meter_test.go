package imagetransfer

import (
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/pkg/progress"
)

// What is known of blobs adds up to the image: one that is skipped does not
// count, one that is tried again does not count twice.
func TestMeterAddsUp(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	var last progress.Event
	m := StartMeter(func(e progress.Event) { last = e }, progress.Event{Text: "image"}, map[digest.Digest]int64{a: 100, b: 50, c: 7})
	say := func(e types.ProgressEvent, d digest.Digest, offset uint64) {
		m.Channel() <- types.ProgressProperties{Event: e, Artifact: types.BlobInfo{Digest: d, Size: 100}, Offset: offset}
	}
	say(types.ProgressEventNewArtifact, a, 0)
	say(types.ProgressEventRead, a, 60)
	say(types.ProgressEventNewArtifact, a, 0)
	say(types.ProgressEventRead, a, 40)
	say(types.ProgressEventSkipped, b, 0)
	m.End()
	if last.Kind != progress.Transfer || last.Text != "image" || last.Done != 40 || last.Total != 107 {
		t.Errorf("the last event is %+v, want 40 of 107 bytes", last)
	}
}

func TestMeterWithoutListener(t *testing.T) {
	m := StartMeter(nil, progress.Event{}, nil)
	if m.Channel() != nil {
		t.Error("nobody would read from the channel")
	}
	m.End()
}

func TestMeteredBlob(t *testing.T) {
	var last progress.Event
	m := StartMeter(func(e progress.Event) { last = e }, progress.Event{}, nil)
	info := types.BlobInfo{Digest: digest.FromString("a"), Size: 300000}
	blob := &meteredBlob{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", 300000))), to: m, state: types.ProgressProperties{Artifact: info}}
	blob.tell(types.ProgressEventNewArtifact)
	if n, err := io.Copy(io.Discard, blob); n != 300000 || err != nil {
		t.Fatal(n, err)
	}
	m.End()
	if last.Done != 300000 || last.Total != 300000 {
		t.Errorf("the last event is %+v, want all bytes", last)
	}
}

// What still reads a blob after the transfer has failed neither panics nor
// waits for ever.
func TestMeterStragglers(t *testing.T) {
	m := StartMeter(func(progress.Event) {}, progress.Event{}, nil)
	library, blob := m.Channel(), &meteredBlob{to: m}
	m.End()
	told := make(chan struct{})
	go func() {
		blob.tell(types.ProgressEventRead)
		library <- types.ProgressProperties{}
		close(told)
	}()
	<-told
}
