package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pdidev/pdibuild/internal/termtext"
)

// TransferInterval is how often a plain log mentions a running transfer.
const TransferInterval = 10 * time.Second

// PlainOptions change what a Plain shows. The zero value suits a log.
type PlainOptions struct {
	// Verbose shows events that explain choices, Quiet only warnings.
	Verbose, Quiet bool
	// Terminal removes what could steer a terminal from the output of steps. In a
	// log that stays as it is.
	Terminal bool
}

// A Plain writes one line per event and per line of output, for logs
// and pipes.
type Plain struct {
	w io.Writer
	PlainOptions

	mu       sync.Mutex
	transfer time.Time // when a line about one was last written
	longest  stopwatch // for the summary
}

// NewPlain returns a printer that writes to w.
func NewPlain(w io.Writer, opt PlainOptions) *Plain { return &Plain{w: w, PlainOptions: opt} }

// Event writes a line.
func (p *Plain) Event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Quiet && e.Kind != Warning {
		return
	}
	line := termtext.Lines(eventLine(e, p.Verbose))
	p.longest.note(e)
	switch {
	case e.Kind != Transfer:
	case p.transfer.IsZero():
		p.transfer = e.Time // a short transfer gets no line
	case e.Time.Sub(p.transfer) >= TransferInterval:
		p.transfer = e.Time
		line = where(e) + termtext.Line(termtext.FirstLine(e.Text)) + " " + TransferText(e)
	}
	if line != "" {
		fmt.Fprintln(p.w, line)
	}
}

// Output writes a line after the name of its stage.
func (p *Plain) Output(stage string, _ int, line []byte) {
	if p.Quiet {
		return
	}
	if p.Terminal {
		line = []byte(termtext.Line(string(line)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s | %s\n", stage, line)
}

// Result writes a summary.
func (p *Plain) Result(r *Result) {
	if p.Quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	summary(p.w, r, p.longest, 0)
}

// Close has nothing to do.
func (p *Plain) Close() {}
