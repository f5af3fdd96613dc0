package progress

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/internal/termtext"
)

// eventLine is an event as text, or "" when it is not shown. It is one line,
// but for messages, of which no part may get lost.
func eventLine(e Event, verbose bool) string {
	text := termtext.FirstLine(e.Text)
	whole := strings.ReplaceAll(strings.TrimSpace(e.Text), "\n", "\n  ")
	switch e.Kind {
	case StageStart:
		if verbose {
			return fmt.Sprintf("[%s] starts from %s", e.Stage, text)
		}
	case StageEnd:
		if verbose && !e.Failed && !e.Stopped {
			return fmt.Sprintf("[%s] finished in %s", e.Stage, quantity.Duration(e.Duration))
		}
	case StepStart:
		return where(e) + text
	case StepCached:
		return where(e) + "cached: " + text
	case StepEnd:
		switch {
		case e.Failed:
			return where(e) + "failed after " + quantity.Duration(e.Duration) + ": " + text
		case e.Stopped:
			return where(e) + "stopped after " + quantity.Duration(e.Duration) + ": " + text
		}
		return where(e) + "done in " + quantity.Duration(e.Duration)
	case Package:
		return where(e) + packageText(e) + ": " + text + remainingText(e)
	case Forecast:
		return where(e) + text
	case Commit:
		if text == "" {
			text = "writing the image"
		}
		return text
	case Warning:
		return "pdibuild: warning: " + whole
	case Info:
		if verbose {
			return "pdibuild: " + whole
		}
	}
	return ""
}

// where is "[stage 2/5] ", as far as it is known.
func where(e Event) string {
	switch {
	case e.Stage == "":
		return ""
	case e.Step == 0:
		return fmt.Sprintf("[%s] ", e.Stage)
	}
	return fmt.Sprintf("[%s %d/%d] ", e.Stage, e.Step, e.Steps)
}

// TransferText says how far a transfer is.
func TransferText(e Event) string {
	text := quantity.Format(e.Done)
	if e.Total > 0 {
		text += " of " + quantity.Format(e.Total)
	}
	if e.Rate > 0 {
		text += ", " + quantity.Format(e.Rate) + "/s"
	}
	if e.Remaining >= time.Second {
		text += ", " + quantity.Duration(e.Remaining.Round(time.Second)) + " left"
	}
	return text
}

// A stopwatch remembers the steps that took longest.
type stopwatch struct{ steps []Event }

// A summary names so many steps, and none that took less than a second.
const (
	mostSteps = 5
	longStep  = time.Second
)

func (s *stopwatch) note(e Event) {
	if e.Kind != StepEnd || e.Duration < longStep {
		return
	}
	s.steps = append(s.steps, e)
	slices.SortStableFunc(s.steps, func(a, b Event) int { return cmp.Compare(b.Duration, a.Duration) })
	s.steps = s.steps[:min(len(s.steps), mostSteps)]
}

// mostText is how much of a step's text the summary has.
const mostText = 50

// summary is the finished image in a few lines. Those about steps are no wider
// than width, unless that is 0.
func summary(w io.Writer, r *Result, longest stopwatch, width int) {
	fmt.Fprintf(w, "built sha256:%s in %s\n", r.ImageID, quantity.Duration(r.Duration))
	for _, name := range r.Names {
		fmt.Fprintf(w, "  name   %s\n", name)
	}
	fmt.Fprintf(w, "  size   %s in %s\n", quantity.Format(r.Size), quantity.Count(r.Layers, "layer"))
	fmt.Fprintf(w, "  steps  %d executed, %d cached\n", r.Executed, r.Cached)
	for i, e := range longest.steps {
		label := "       "
		if i == 0 {
			label = "longest"
		}
		line := fmt.Sprintf("  %s %7s  %s", label, quantity.Duration(e.Duration), where(e))
		room := mostText
		if width > 0 {
			room = max(min(room, width-1-ansi.StringWidth(line)), 1)
		}
		fmt.Fprintf(w, "%s%s\n", line, ansi.Truncate(termtext.Line(termtext.FirstLine(e.Text)), room, "…"))
	}
	if r.LogDir != "" && r.Executed > 0 {
		fmt.Fprintf(w, "  logs   %s\n", r.LogDir)
	}
}

// packageText says how far a spack step has come.
func packageText(e Event) string {
	text := fmt.Sprintf("packages %d/%d", e.Done, e.Total)
	if p := e.Packages; p != nil && p.FromCache > 0 {
		text += fmt.Sprintf(" (%d from the cache)", p.FromCache)
	}
	return text
}

// remainingText is the estimate of the time left, where there is one and it is
// worth telling.
func remainingText(e Event) string {
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
