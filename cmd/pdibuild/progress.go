package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// A printer shows the progress of a build. Its methods may be called from
// several goroutines. Nothing is shown after Close.
type printer interface {
	Event(e builder.Event)
	// Output shows one line that a step has printed. The line is not kept.
	Output(stage string, step int, line []byte)
	// Result shows the finished image.
	Result(r *builder.Result)
	Close()
}

// progressFlags say how progress is shown.
type progressFlags struct {
	mode           string
	verbose, quiet bool
}

func (p *progressFlags) check() error {
	return oneOf("progress", p.mode, "auto", "plain", "json", "tty")
}

// newPrinter returns the printer that the flags ask for. Auto is tty on a
// terminal that can move its cursor and that nobody records.
func (a *app) newPrinter(p progressFlags) printer {
	return &maskedPrinter{a.unmaskedPrinter(p), a.mask}
}

func (a *app) unmaskedPrinter(p progressFlags) printer {
	a.outputShown = false
	switch {
	case p.mode == "json":
		return newJSONPrinter(a.stderr, p.quiet)
	case p.quiet:
		return &plainPrinter{w: a.stderr, quiet: true}
	case p.mode == "tty", p.mode == "auto" && a.isLive():
		a.outputShown = p.verbose
		return newTTYPrinter(a.stderr, a.terminal, ttyStyle{verbose: p.verbose, colors: a.env("NO_COLOR") == ""})
	}
	a.outputShown = true
	_, _, terminal := a.terminal()
	return &plainPrinter{w: a.stderr, verbose: p.verbose, terminal: terminal}
}

func (a *app) isLive() bool {
	width, _, terminal := a.terminal()
	dumb := a.env("TERM") == "dumb" || a.env("TERM") == ""
	return terminal && width > 0 && !dumb && a.env("CI") == ""
}

// eventLine is an event as text, or "" when it is not shown. It is one line,
// but for messages, of which no part may get lost.
func eventLine(e builder.Event, verbose bool) string {
	text := firstLine(e.Text)
	whole := strings.ReplaceAll(strings.TrimSpace(e.Text), "\n", "\n  ")
	switch e.Kind {
	case builder.EventStageStart:
		if verbose {
			return fmt.Sprintf("[%s] starts from %s", e.Stage, text)
		}
	case builder.EventStageEnd:
		if verbose && !e.Failed && !e.Stopped {
			return fmt.Sprintf("[%s] finished in %s", e.Stage, seconds(e.Duration))
		}
	case builder.EventStepStart:
		return where(e) + text
	case builder.EventStepCached:
		return where(e) + "cached: " + text
	case builder.EventStepEnd:
		switch {
		case e.Failed:
			return where(e) + "failed after " + seconds(e.Duration) + ": " + text
		case e.Stopped:
			return where(e) + "stopped after " + seconds(e.Duration) + ": " + text
		}
		return where(e) + "done in " + seconds(e.Duration)
	case builder.EventPackage:
		return where(e) + packageText(e) + ": " + text + remainingText(e)
	case builder.EventForecast:
		return where(e) + text
	case builder.EventCommit:
		if text == "" {
			text = "writing the image"
		}
		return text
	case builder.EventWarning:
		return "pdibuild: warning: " + whole
	case builder.EventInfo:
		if verbose {
			return "pdibuild: " + whole
		}
	}
	return ""
}

// where is "[stage 2/5] ", as far as it is known.
func where(e builder.Event) string {
	switch {
	case e.Stage == "":
		return ""
	case e.Step == 0:
		return fmt.Sprintf("[%s] ", e.Stage)
	}
	return fmt.Sprintf("[%s %d/%d] ", e.Stage, e.Step, e.Steps)
}

// transferText says how far a transfer is.
func transferText(e builder.Event) string {
	text := size(e.Done)
	if e.Total > 0 {
		text += " of " + size(e.Total)
	}
	if e.Rate > 0 {
		text += ", " + size(e.Rate) + "/s"
	}
	if e.Remaining >= time.Second {
		text += ", " + seconds(e.Remaining.Round(time.Second)) + " left"
	}
	return text
}

func firstLine(text string) string {
	line, rest, more := bytes.Cut([]byte(text), []byte("\n"))
	if more && len(bytes.TrimSpace(rest)) > 0 {
		return string(line) + " …"
	}
	return string(line)
}

// seconds is a duration for humans.
func seconds(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// size is a number of bytes for humans, in powers of 1000 as podman shows it.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.5 && unit < 3 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.3g %cB", value, "kMGT"[unit])
}

// A stopwatch remembers the steps that took longest.
type stopwatch struct{ steps []builder.Event }

// A summary names so many steps, and none that took less than a second.
const (
	mostSteps = 5
	longStep  = time.Second
)

func (s *stopwatch) note(e builder.Event) {
	if e.Kind != builder.EventStepEnd || e.Duration < longStep {
		return
	}
	s.steps = append(s.steps, e)
	slices.SortStableFunc(s.steps, func(a, b builder.Event) int { return cmp.Compare(b.Duration, a.Duration) })
	s.steps = s.steps[:min(len(s.steps), mostSteps)]
}

// mostText is how much of a step's text the summary has.
const mostText = 50

// summary is the finished image in a few lines. Those about steps are no wider
// than width, unless that is 0.
func summary(w io.Writer, r *builder.Result, longest stopwatch, width int) {
	fmt.Fprintf(w, "built sha256:%s in %s\n", r.ImageID, seconds(r.Duration))
	for _, name := range r.Names {
		fmt.Fprintf(w, "  name   %s\n", name)
	}
	fmt.Fprintf(w, "  size   %s in %s\n", size(r.Size), count(r.Layers, "layer"))
	fmt.Fprintf(w, "  steps  %d executed, %d cached\n", r.Executed, r.Cached)
	for i, e := range longest.steps {
		label := "       "
		if i == 0 {
			label = "longest"
		}
		line := fmt.Sprintf("  %s %7s  %s", label, seconds(e.Duration), where(e))
		room := mostText
		if width > 0 {
			room = max(min(room, width-1-runewidth.StringWidth(line)), 1)
		}
		fmt.Fprintf(w, "%s%s\n", line, runewidth.Truncate(termtext.Line(firstLine(e.Text)), room, "…"))
	}
	if r.LogDir != "" && r.Executed > 0 {
		fmt.Fprintf(w, "  logs   %s\n", r.LogDir)
	}
}

// count is "1 layer" or "2 layers".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// A lineWriter passes on what is written to it, line by line.
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

// packageText says how far a spack step has come.
func packageText(e builder.Event) string {
	text := fmt.Sprintf("packages %d/%d", e.Done, e.Total)
	if p := e.Packages; p != nil && p.FromCache > 0 {
		text += fmt.Sprintf(" (%d from the cache)", p.FromCache)
	}
	return text
}

// remainingText is the estimate of the time left, where there is one and it is
// worth telling.
func remainingText(e builder.Event) string {
	if p := e.Packages; p != nil && p.Remaining != nil && *p.Remaining >= time.Second {
		return "; about " + roughly(*p.Remaining) + " left"
	}
	return ""
}

// roughly is a duration that is only an estimate.
func roughly(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Round(5*time.Second).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Round(time.Minute).Minutes()))
	}
	minutes := int(d.Round(5 * time.Minute).Minutes())
	return fmt.Sprintf("%dh%02dm", minutes/60, minutes%60)
}
