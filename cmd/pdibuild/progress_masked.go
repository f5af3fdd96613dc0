package main

import (
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// A maskedPrinter masks secrets in what another printer shows: the library masks
// what a build says, but names, paths and warnings are the command's.
type maskedPrinter struct {
	progress.Printer
	mask func(string) string
}

// Event masks what the event says.
func (p *maskedPrinter) Event(e builder.Event) {
	e = wordedEvent(e)
	e.Stage, e.Text = p.mask(e.Stage), p.mask(e.Text)
	p.Printer.Event(e)
}

// Output masks a line.
func (p *maskedPrinter) Output(stage string, step int, line []byte) {
	p.Printer.Output(p.mask(stage), step, []byte(p.mask(string(line))))
}

// Result masks the names and the directory of the logs.
func (p *maskedPrinter) Result(r *builder.Result) { p.Printer.Result(maskedResult(r, p.mask)) }

// maskedResult is a copy for people.
func maskedResult(r *builder.Result, mask func(string) string) *builder.Result {
	shown := *r
	shown.Names, shown.LogDir = maskEach(r.Names, mask), mask(r.LogDir)
	return &shown
}

// maskEach masks each text.
func maskEach(texts []string, mask func(string) string) []string {
	var masked []string
	for _, text := range texts {
		masked = append(masked, mask(text))
	}
	return masked
}
