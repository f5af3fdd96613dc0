package progress

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"
)

// A JSON writes one JSON object per line, for programs. Every object has "event"
// and "time"; docs/cli.md describes the other fields.
type JSON struct {
	mu    sync.Mutex
	enc   *json.Encoder
	quiet bool
}

// NewJSON returns a printer that writes to w; if quiet, only warnings and the
// result.
func NewJSON(w io.Writer, quiet bool) *JSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &JSON{enc: enc, quiet: quiet}
}

// Event writes the event.
func (p *JSON) Event(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	if !p.quiet || e.Kind == Warning {
		p.write(e)
	}
}

// An outputLine is a line that a step has printed.
type outputLine struct {
	Event string    `json:"event"` // "output"
	Time  time.Time `json:"time"`
	Stage string    `json:"stage"`
	Step  int       `json:"step"`
	Line  string    `json:"line"`
}

// Output writes an object with the line.
func (p *JSON) Output(stage string, step int, line []byte) {
	if !p.quiet {
		p.write(outputLine{"output", time.Now().UTC(), stage, step, strings.ToValidUTF8(string(line), "\uFFFD")})
	}
}

// A resultLine is the finished image.
type resultLine struct {
	Event string    `json:"event"` // "result"
	Time  time.Time `json:"time"`
	*Result
}

// Result writes an object with the fields of the result.
func (p *JSON) Result(r *Result) {
	p.write(resultLine{"result", time.Now().UTC(), r})
}

// write ignores errors: a reader that went away must not stop the build.
func (p *JSON) write(v any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.enc.Encode(v)
}

// Close has nothing to do.
func (p *JSON) Close() {}
