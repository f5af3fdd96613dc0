package main

import (
	"bytes"

	"github.com/pdidev/pdibuild/pkg/progress"
)

// progressFlags say how progress is shown.
type progressFlags struct {
	mode           string
	verbose, quiet bool
}

func (p *progressFlags) check() error {
	return oneOf("progress", p.mode, "auto", "plain", "json", "tty")
}

// newPrinter returns the printer that the flags ask for. Auto is tty on a
// terminal that can move its cursor and is not recorded.
func (a *app) newPrinter(p progressFlags) progress.Printer {
	return &maskedPrinter{a.unmaskedPrinter(p), a.mask}
}

func (a *app) unmaskedPrinter(p progressFlags) progress.Printer {
	a.outputShown = false
	switch {
	case p.mode == "json":
		return progress.NewJSON(a.stderr, p.quiet)
	case p.quiet:
		return progress.NewPlain(a.stderr, progress.PlainOptions{Quiet: true})
	case p.mode == "tty", p.mode == "auto" && a.isLive():
		a.outputShown = p.verbose
		return newLivePrinter(a.stderr, progress.TerminalOptions{
			Size: a.terminal, Background: inBackground, Verbose: p.verbose, Colors: a.env("NO_COLOR") == "",
		})
	}
	a.outputShown = true
	_, _, terminal := a.terminal()
	return progress.NewPlain(a.stderr, progress.PlainOptions{Verbose: p.verbose, Terminal: terminal})
}

func (a *app) isLive() bool {
	width, _, terminal := a.terminal()
	dumb := a.env("TERM") == "dumb" || a.env("TERM") == ""
	return terminal && width > 0 && !dumb && a.env("CI") == ""
}

// A lineWriter passes on what it is given, line by line.
type lineWriter struct {
	line func([]byte)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.line(bytes.TrimRight(w.rest[:i], "\r"))
		w.rest = w.rest[i+1:]
	}
}
