package main

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// A jsonPrinter writes one JSON object per line, for programs. Every object
// has "event" and "time"; docs/cli.md describes the others.
type jsonPrinter struct {
	mu    sync.Mutex
	enc   *json.Encoder
	quiet bool
}

func newJSONPrinter(w io.Writer, quiet bool) *jsonPrinter {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonPrinter{enc: enc, quiet: quiet}
}

func (p *jsonPrinter) Event(e builder.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	if !p.quiet || e.Kind == builder.EventWarning {
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

func (p *jsonPrinter) Output(stage string, step int, line []byte) {
	if !p.quiet {
		p.write(outputLine{"output", time.Now().UTC(), stage, step, strings.ToValidUTF8(string(line), "\uFFFD")})
	}
}

// A resultLine is the finished image.
type resultLine struct {
	Event string    `json:"event"` // "result"
	Time  time.Time `json:"time"`
	*builder.Result
}

func (p *jsonPrinter) Result(r *builder.Result) {
	p.write(resultLine{"result", time.Now().UTC(), r})
}

// write ignores errors: a reader that went away must not stop the build.
func (p *jsonPrinter) write(v any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.enc.Encode(v)
}

func (p *jsonPrinter) Close() {}
