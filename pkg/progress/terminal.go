package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/internal/termtext"
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

// A Terminal shows one live line for each running stage at the bottom of a
// terminal; what is finished scrolls up above them.
type Terminal struct {
	w   io.Writer
	opt TerminalOptions
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
}

// TerminalOptions describe a terminal and what it shows.
type TerminalOptions struct {
	// Size returns the terminal's present size in cells; ok is false where it is
	// not known. Nil means 80 by 24.
	Size func() (width, height int, ok bool)
	// Background reports whether another job has the terminal: live lines would
	// be drawn over what that shows. May be nil.
	Background func() bool
	// Verbose lets the output of steps scroll by.
	Verbose bool
	// Colors are used.
	Colors bool
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
func (r *row) packages(e Event, now time.Time) {
	what := termtext.FirstLine(e.Text)
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

// NewTerminal returns a printer that draws on the terminal behind w until it is
// closed.
func NewTerminal(w io.Writer, opt TerminalOptions) *Terminal {
	p := &Terminal{w: w, opt: opt, now: time.Now, stop: make(chan struct{}), done: make(chan struct{})}
	go p.animate()
	return p
}

// Pause takes the live lines off the screen while stop stops the program, as
// Ctrl-Z does. What the shell prints in the meantime stays: later lines are drawn
// below it.
func (p *Terminal) Pause(stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		stop()
		return
	}
	rows := p.rows
	p.rows = nil
	p.draw("")
	p.rows = rows
	stop()
}

func (p *Terminal) animate() {
	defer close(p.done)
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.mu.Lock()
			p.frame++
			p.draw("")
			p.mu.Unlock()
		}
	}
}

// Event shows what is finished above the live lines, and brings these up to date.
func (p *Terminal) Event(e Event) {
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
func (p *Terminal) track(e Event) {
	switch e.Kind {
	case StageStart:
		p.row(e).text = "from " + termtext.FirstLine(e.Text)
	case StepStart, Commit:
		r := p.row(e)
		r.text, r.last, r.start, r.end = termtext.FirstLine(e.Text), "", p.now(), time.Time{}
		if r.text == "" {
			r.text = "writing the image"
		}
	case StepCached, StepEnd:
		r := p.row(e)
		r.text, r.last, r.start, r.end = "", "", p.now(), time.Time{}
	case Package:
		p.row(e).packages(e, p.now())
	case Transfer:
		r := p.row(e)
		r.last = TransferText(e)
		if e.Text != "" {
			r.text = termtext.FirstLine(e.Text)
		}
	case StageEnd:
		p.rows = slices.DeleteFunc(p.rows, func(r *row) bool { return r.stage == e.Stage })
	}
}

// row returns the live line that the event is about.
func (p *Terminal) row(e Event) *row {
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
func (p *Terminal) scrolled(e Event) string {
	switch e.Kind {
	case StepCached:
		return faint + p.fit(where(e)+"cached: ", e.Text, "") + plain
	case StepEnd:
		switch {
		case e.Failed:
			return red + p.fit(where(e), e.Text, "  failed after "+quantity.Duration(e.Duration)) + plain
		case e.Stopped:
			return faint + p.fit(where(e), e.Text, "  stopped after "+quantity.Duration(e.Duration)) + plain
		}
		return p.fit(where(e), e.Text, "  "+quantity.Duration(e.Duration))
	case Warning:
		return yellow + p.wrap(eventLine(e, p.opt.Verbose)) + plain
	case Info, Forecast:
		return p.wrap(eventLine(e, p.opt.Verbose))
	}
	return ""
}

// fit shortens the first line of text so that all three are one row.
func (p *Terminal) fit(before, text, after string) string {
	room := p.width() - 1 - ansi.StringWidth(before) - ansi.StringWidth(after)
	return before + ansi.Truncate(termtext.Line(termtext.FirstLine(text)), max(room, 1), "…") + after
}

// wrap breaks lines between words, which a terminal does not.
func (p *Terminal) wrap(text string) string { return wrapWords(termtext.Lines(text), p.width()-1) }

// Output shows the line in its stage's live line; if verbose, it scrolls by.
func (p *Terminal) Output(stage string, step int, line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	r := p.row(Event{Stage: stage})
	if text := strings.TrimSpace(termtext.Line(string(line))); text != "" {
		r.last = text
	}
	if p.opt.Verbose {
		p.draw(fmt.Sprintf("%s | %s", stage, termtext.Line(string(line))))
	}
}

// Result shows a summary.
func (p *Terminal) Result(r *Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = nil
	var b strings.Builder
	summary(&b, r, p.longest, p.width())
	p.draw(p.wrap(strings.TrimSuffix(b.String(), "\n")))
}

// Close removes the live lines, so that what follows starts on a line of its
// own. It may be called twice.
func (p *Terminal) Close() {
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
// flickers. Lines are erased one by one: some terminals keep the content when the
// whole screen is erased.
func (p *Terminal) draw(scroll string) {
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
			above = append(above, ansi.StringWidth(termtext.Line(line)))
		}
	}
	p.drawn = nil
	if p.opt.Background == nil || !p.opt.Background() {
		for _, line := range p.lines() {
			b.WriteString(line + eraseRight + "\n")
			p.drawn = append(p.drawn, ansi.StringWidth(termtext.Line(line)))
		}
	}
	if rest := old - above.height(width) - p.drawn.height(width); rest > 0 {
		b.WriteString(strings.Repeat(eraseRight+"\n", rest))
		fmt.Fprintf(&b, cursorUp, rest)
	}
	if b.Len() > 0 {
		text := b.String()
		if !p.opt.Colors {
			text = strings.NewReplacer(faint, "", red, "", yellow, "", plain, "").Replace(text)
		}
		_, _ = io.WriteString(p.w, text)
	}
}

// size is how many cells the terminal has now.
func (p *Terminal) size() (width, height int) {
	width, height = 80, 24
	if p.opt.Size == nil {
		return width, height
	}
	w, h, ok := p.opt.Size()
	if ok && w > 0 {
		width = w
	}
	if h > 0 {
		height = h
	}
	return width, height
}

// width is how wide the terminal is now.
func (p *Terminal) width() int {
	width, _ := p.size()
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
func (p *Terminal) lines() []string {
	width, height := p.size()
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
	elapsed := " " + quantity.Duration(now.Sub(r.start))
	if left := r.end.Sub(now); left >= time.Second {
		elapsed += ", about " + roughly(left) + " left"
	}
	text := spin + " " + r.prefix + termtext.Line(r.text)
	room := max(width-1-ansi.StringWidth(elapsed), 1)
	if r.last == "" {
		return ansi.Truncate(text, room, "…") + elapsed
	}
	// A long step leaves room for its output.
	text = ansi.Truncate(text, max(room/2, 1), "…")
	last := ansi.Truncate("  "+r.last, room-ansi.StringWidth(text), "…")
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
		for ansi.StringWidth(line) > room {
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
		if word, _, _ := strings.Cut(strings.TrimLeft(line[i:], " "), " "); ansi.StringWidth(word) > room {
			continue
		}
		if best >= 0 && ansi.StringWidth(line[:i]) > room {
			break
		}
		best = i
	}
	return best
}
