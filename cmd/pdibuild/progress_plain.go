package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// transferInterval is how often a plain log mentions a running transfer.
const transferInterval = 10 * time.Second

// A plainPrinter writes one line per event and per line of output, for logs
// and pipes.
type plainPrinter struct {
	w io.Writer
	// verbose shows events that explain choices, quiet only warnings.
	verbose, quiet bool
	// terminal: what steps print must not steer it. In a log it stays as it is.
	terminal bool

	mu       sync.Mutex
	transfer time.Time // of the last line about one
	longest  stopwatch // for the summary
}

func (p *plainPrinter) Event(e builder.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet && e.Kind != builder.EventWarning {
		return
	}
	line := termtext.Lines(eventLine(e, p.verbose))
	p.longest.note(e)
	switch {
	case e.Kind != builder.EventTransfer:
	case p.transfer.IsZero():
		p.transfer = e.Time // a short one is not worth a line
	case e.Time.Sub(p.transfer) >= transferInterval:
		p.transfer = e.Time
		line = where(e) + termtext.Line(firstLine(e.Text)) + " " + transferText(e)
	}
	if line != "" {
		fmt.Fprintln(p.w, line)
	}
}

func (p *plainPrinter) Output(stage string, _ int, line []byte) {
	if p.quiet {
		return
	}
	if p.terminal {
		line = []byte(termtext.Line(string(line)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s | %s\n", stage, line)
}

func (p *plainPrinter) Result(r *builder.Result) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	summary(p.w, r, p.longest, 0)
}

func (p *plainPrinter) Close() {}
