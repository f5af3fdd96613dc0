package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// redrawInterval is how often the live lines are drawn.
const redrawInterval = 100 * time.Millisecond

// ANSI sequences, ECMA-48.
const (
	cursorUp   = "\x1b[%dA"
	eraseRight = "\x1b[K"
	faint      = "\x1b[2m"
	red        = "\x1b[31m"
	yellow     = "\x1b[33m"
	plain      = "\x1b[0m"
)

// A ttyPrinter shows one live line for each running stage at the bottom of a
// terminal; what is finished scrolls up above them.
type ttyPrinter struct {
	w        io.Writer
	terminal func() (width, height int, ok bool)
	ttyStyle
	now func() time.Time

	mu    sync.Mutex
	rows  []*row
	drawn drawnLines
	frame int
	// longest steps, for the summary.
	longest stopwatch
	// closed stops everything.
	closed bool
	stop   chan struct{}
	done   chan struct{}
	// paused passes Ctrl-Z on; background reports whether somebody else has
	// the terminal. Both may be nil.
	paused     <-chan os.Signal
	background func() bool
}

// A ttyStyle says what a terminal gets to see.
type ttyStyle struct {
	// verbose lets the output of steps scroll by.
	verbose bool
	colors  bool
}

// A row is the live line of one stage, or of the transfer of the image when
// it has no stage.
type row struct {
	stage string
	// prefix is "[stage 2/5] ", text the step.
	prefix, text string
	start        time.Time
	// last is the last line of output, or how far a transfer is.
	last string
	// end is when the packages will be there, as far as is known.
	end time.Time
}

// packages is a row about an installation: how far it is and, as long as
// packages are built, which.
func (r *row) packages(e builder.Event, now time.Time) {
	what := firstLine(e.Text)
	r.end = time.Time{}
	if p := e.Packages; p != nil {
		if len(p.Building) > 0 {
			what = "building " + strings.Join(p.Building, ", ")
		}
		if p.Remaining != nil {
			r.end = now.Add(*p.Remaining)
		}
	}
	r.text = packageText(e) + ": " + what
}

func newTTYPrinter(w io.Writer, terminal func() (int, int, bool), style ttyStyle) *ttyPrinter {
	p := &ttyPrinter{
		w: w, terminal: terminal, ttyStyle: style, now: time.Now, stop: make(chan struct{}), done: make(chan struct{}),
		background: inBackground,
	}
	paused, end := pauses()
	p.paused = paused
	go func() {
		defer end()
		p.animate()
	}()
	return p
}

func (p *ttyPrinter) animate() {
	defer close(p.done)
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-p.paused:
			p.pause()
		case <-tick.C:
			p.mu.Lock()
			p.frame++
			p.draw("")
			p.mu.Unlock()
		}
	}
}

func (p *ttyPrinter) Event(e builder.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.longest.note(e)
	p.track(e)
	if line := p.scrolled(e); line != "" {
		p.draw(line)
	}
}

// track brings the live lines up to date.
func (p *ttyPrinter) track(e builder.Event) {
	switch e.Kind {
	case builder.EventStageStart:
		p.row(e).text = "from " + firstLine(e.Text)
	case builder.EventStepStart, builder.EventCommit:
		r := p.row(e)
		r.text, r.last, r.start, r.end = firstLine(e.Text), "", p.now(), time.Time{}
		if r.text == "" {
			r.text = "writing the image"
		}
	case builder.EventStepCached, builder.EventStepEnd:
		r := p.row(e)
		r.text, r.last, r.start, r.end = "", "", p.now(), time.Time{}
	case builder.EventPackage:
		p.row(e).packages(e, p.now())
	case builder.EventTransfer:
		r := p.row(e)
		r.last = transferText(e)
		if e.Text != "" {
			r.text = firstLine(e.Text)
		}
	case builder.EventStageEnd:
		p.rows = slices.DeleteFunc(p.rows, func(r *row) bool { return r.stage == e.Stage })
	}
}

// row returns the live line that the event is about.
func (p *ttyPrinter) row(e builder.Event) *row {
	for _, r := range p.rows {
		if r.stage == e.Stage {
			if e.Step > 0 || r.prefix == "" {
				r.prefix = where(e)
			}
			return r
		}
	}
	r := &row{stage: e.Stage, prefix: where(e), start: p.now()}
	p.rows = append(p.rows, r)
	return r
}

// scrolled is what stays on the screen of an event, "" for nothing. A step is
// one row, however narrow the terminal; of messages no part may get lost.
func (p *ttyPrinter) scrolled(e builder.Event) string {
	switch e.Kind {
	case builder.EventStepCached:
		return faint + p.fit(where(e)+"cached: ", e.Text, "") + plain
	case builder.EventStepEnd:
		switch {
		case e.Failed:
			return red + p.fit(where(e), e.Text, "  failed after "+seconds(e.Duration)) + plain
		case e.Stopped:
			return faint + p.fit(where(e), e.Text, "  stopped after "+seconds(e.Duration)) + plain
		}
		return p.fit(where(e), e.Text, "  "+seconds(e.Duration))
	case builder.EventWarning:
		return yellow + p.wrap(eventLine(e, p.verbose)) + plain
	case builder.EventInfo, builder.EventForecast:
		return p.wrap(eventLine(e, p.verbose))
	}
	return ""
}

// fit shortens the first line of text so that all three are one row.
func (p *ttyPrinter) fit(before, text, after string) string {
	room := p.width() - 1 - runewidth.StringWidth(before) - runewidth.StringWidth(after)
	return before + runewidth.Truncate(termtext.Line(firstLine(text)), max(room, 1), "…") + after
}

// wrap breaks lines between words, which a terminal does not.
func (p *ttyPrinter) wrap(text string) string { return wrapWords(termtext.Lines(text), p.width()-1) }

func (p *ttyPrinter) Output(stage string, step int, line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	r := p.row(builder.Event{Stage: stage})
	if text := strings.TrimSpace(termtext.Line(string(line))); text != "" {
		r.last = text
	}
	if p.verbose {
		p.draw(fmt.Sprintf("%s | %s", stage, termtext.Line(string(line))))
	}
}

func (p *ttyPrinter) Result(r *builder.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = nil
	var b strings.Builder
	summary(&b, r, p.longest, p.width())
	p.draw(p.wrap(strings.TrimSuffix(b.String(), "\n")))
}

// Close removes the live lines, so that what follows starts on a line of its
// own. It may be called twice.
func (p *ttyPrinter) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed, p.rows = true, nil
	p.draw("")
	close(p.stop)
	p.mu.Unlock()
	<-p.done
}

// draw replaces the live lines; scroll, unless empty, stays above them. All of
// it is one write, and lines are written over the old ones, so that nothing
// flickers. To erase the screen below would do, but for terminals that keep what
// was erased when it was all of the screen.
func (p *ttyPrinter) draw(scroll string) {
	var b strings.Builder
	width := p.width()
	old := p.drawn.height(width)
	if old > 0 {
		fmt.Fprintf(&b, cursorUp+"\r", old)
	}
	var above drawnLines
	if scroll != "" {
		for _, line := range strings.Split(scroll, "\n") {
			b.WriteString(line + eraseRight + "\n")
			above = append(above, runewidth.StringWidth(termtext.Line(line)))
		}
	}
	p.drawn = nil
	if p.background == nil || !p.background() {
		for _, line := range p.lines() {
			b.WriteString(line + eraseRight + "\n")
			p.drawn = append(p.drawn, runewidth.StringWidth(termtext.Line(line)))
		}
	}
	if rest := old - above.height(width) - p.drawn.height(width); rest > 0 {
		b.WriteString(strings.Repeat(eraseRight+"\n", rest))
		fmt.Fprintf(&b, cursorUp, rest)
	}
	if b.Len() > 0 {
		text := b.String()
		if !p.colors {
			text = strings.NewReplacer(faint, "", red, "", yellow, "", plain, "").Replace(text)
		}
		_, _ = io.WriteString(p.w, text)
	}
}

// width is how wide the terminal is now.
func (p *ttyPrinter) width() int {
	width, _, ok := p.terminal()
	if !ok || width <= 0 {
		return 80
	}
	return width
}

// drawnLines are the widths of the live lines on the screen.
type drawnLines []int

// height is how many rows they take: a terminal that has become narrower has
// wrapped what did not fit any more.
func (d drawnLines) height(width int) (rows int) {
	for _, w := range d {
		rows += max(1, (w+width-1)/width)
	}
	return rows
}

// lines are the live lines, none wider than the terminal and not more than
// half of it.
func (p *ttyPrinter) lines() []string {
	width := p.width()
	_, height, _ := p.terminal()
	if height <= 0 { // a terminal that nobody has told its height
		height = 24
	}
	// Between two steps there is nothing to tell.
	var rows []*row
	for _, r := range p.rows {
		if r.text != "" || r.last != "" {
			rows = append(rows, r)
		}
	}
	most := max(height/2, 1)
	var lines []string
	for i, r := range rows {
		if i == most-1 && len(rows) > most {
			lines = append(lines, fmt.Sprintf("  and %d more", len(rows)-i))
			break
		}
		lines = append(lines, r.line(spinner(p.frame), p.now(), width))
	}
	return lines
}

func spinner(frame int) string { return string(`|/-\`[frame%4]) }

// line is the row in at most width-1 cells: some terminals wrap when the last
// one is used.
func (r *row) line(spin string, now time.Time, width int) string {
	elapsed := " " + seconds(now.Sub(r.start))
	if left := r.end.Sub(now); left >= time.Second {
		elapsed += ", about " + roughly(left) + " left"
	}
	text := spin + " " + r.prefix + termtext.Line(r.text)
	room := max(width-1-runewidth.StringWidth(elapsed), 1)
	if r.last == "" {
		return runewidth.Truncate(text, room, "…") + elapsed
	}
	// A long step leaves room for its output.
	text = runewidth.Truncate(text, max(room/2, 1), "…")
	last := runewidth.Truncate("  "+r.last, room-runewidth.StringWidth(text), "…")
	return text + elapsed + faint + last + plain
}

// wrapWords breaks lines that are wider than width between words. What goes on is
// indented. A word that is too wide by itself stays whole: it may be a path or a
// digest, which is copied.
func wrapWords(text string, width int) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		const indent = "  "
		room := width
		for runewidth.StringWidth(line) > room {
			at := lastBreak(line, room)
			if at < 0 {
				break
			}
			b.WriteString(line[:at] + "\n" + indent)
			line, room = strings.TrimLeft(line[at:], " "), width-len(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

// lastBreak is the last blank at which a line can be broken so that what is
// before it has room; the first one, where there is none; -1, if there is no
// blank. To break before a word that is too wide by itself does not help.
func lastBreak(line string, room int) int {
	start := len(line) - len(strings.TrimLeft(line, " "))
	best := -1
	for i := start; i < len(line); i++ {
		if line[i] != ' ' || line[i-1] == ' ' {
			continue
		}
		if word, _, _ := strings.Cut(strings.TrimLeft(line[i:], " "), " "); runewidth.StringWidth(word) > room {
			continue
		}
		if best >= 0 && runewidth.StringWidth(line[:i]) > room {
			break
		}
		best = i
	}
	return best
}
