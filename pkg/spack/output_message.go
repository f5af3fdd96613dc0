package spack

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A block is a message of several lines: an error of older versions, or what
// newer ones show of the logs at the end.
type block struct {
	kind   blockKind
	lines  []string
	groups [][]string // of a summary: the lines of one package's log each
	last   int        // the number of the line that the group has come to
}

type blockKind int

const (
	noBlock      blockKind = iota
	errorBlock             // after "==> Error: …"
	summaryBlock           // after "-- lines 1 to 14 --"
	failureBlock           // after "==> Error: The following packages failed to install:"
)

func (b *block) add(line string) {
	if b.kind == summaryBlock {
		if g := len(b.groups) - 1; len(b.groups[g]) < maxLines {
			b.groups[g] = append(b.groups[g], line)
		}
		return
	}
	if len(b.lines) < maxLines {
		b.lines = append(b.lines, line)
	}
}

// blank keeps the empty lines of an error that are between others.
func (b *block) blank() {
	if b.kind == errorBlock {
		b.add("")
	}
}

// message reads a line after "==> ".
func (o *Output) message(text string) {
	if warning, ok := strings.CutPrefix(text, "Warning: "); ok {
		o.warning(warning)
		return
	}
	if message, ok := strings.CutPrefix(text, "Error: "); ok {
		o.errorMessage(message)
		return
	}
	words := strings.Fields(text)
	if len(words) < 2 {
		return
	}
	switch {
	case o.pushed(words):
	case o.modern: // the rest is what its status lines say
		o.keep("==> " + text)
	case words[0] == "Installing":
		o.begin(words[1:])
	case strings.HasSuffix(text, " found: installing from source"):
		o.enterID(strings.TrimPrefix(strings.TrimSuffix(text, " found: installing from source"), "No binary for "), phaseNoBinary)
	case words[0] == "Extracting":
		o.enterID(words[1], phaseExtracting)
	default:
		o.progressOf(words[0], text)
	}
}

func (o *Output) warning(text string) {
	if id, ok := strings.CutPrefix(text, "Skipping build of "); ok && !o.modern {
		id, since, _ := strings.Cut(id, " since ")
		if failed, ok := strings.CutSuffix(since, " failed"); ok {
			o.fail(o.parseID(failed), "", 0, o.takeRecent())
		}
		p := o.parseID(id)
		p.failed = true
		o.emit(p.event(EventSkipped))
		return
	}
	o.emit(Event{Kind: EventWarning, Text: text})
}

// errorMessage begins a message that goes on until Spack says something else.
func (o *Output) errorMessage(text string) {
	o.text.kind, o.text.lines = errorBlock, []string{text}
	if text == "The following packages failed to install:" {
		o.text.kind = failureBlock
	}
}

// aboutOthers says that an error repeats what has been said.
func aboutOthers(text string) bool {
	return strings.HasPrefix(text, "Installation request failed") || strings.HasPrefix(text, "Terminating after first") ||
		strings.HasSuffix(text, ": Package was not installed")
}

// pushed reads "[3/9] Pushed name@version/hash7" with or without a digest.
func (o *Output) pushed(words []string) bool {
	if len(words) < 3 || words[1] != "Pushed" || words[0][0] != '[' {
		return false
	}
	id, hash, ok := strings.Cut(strings.TrimSuffix(words[2], ":"), "/")
	name, version, isSpec := strings.Cut(id, "@")
	if !ok || !isSpec || !isHash(hash) {
		return false
	}
	e := o.find(name, version, hash).event(EventPushed)
	e.Phase = ""
	e.Number, e.Total = fraction(words[0])
	o.emit(e)
	return true
}

// begin reads "name-version-hash [3/7]".
func (o *Output) begin(words []string) {
	p := o.parseID(words[0])
	if p.hash == "" {
		return // "Installing" something else
	}
	o.current, o.done, o.took, o.recent = p, "", 0, nil
	p.phase = phaseStarting
	e := p.event(EventPhase)
	if len(words) > 1 {
		e.Number, e.Total = fraction(words[1])
	}
	o.emit(e)
}

func (o *Output) enterID(id, phase string) {
	if p := o.parseID(id); p.hash != "" {
		o.enter(p, phase, 0)
	}
}

// progressOf reads "name: Executing phase: 'cmake'" and "name: Successfully
// installed name-version-hash".
func (o *Output) progressOf(first, text string) {
	name, ok := strings.CutSuffix(first, ":")
	rest := strings.TrimPrefix(strings.TrimPrefix(text, first), " ")
	if phase, is := strings.CutPrefix(rest, "Executing phase: "); ok && is && o.current != nil && o.current.name == name {
		o.enter(o.current, strings.Trim(phase, "'"), 0)
		return
	}
	if id, is := strings.CutPrefix(rest, "Successfully installed "); ok && is {
		o.done = id
		return
	}
	o.keep("==> " + text)
}

// prefix reads what is after "[+] " in older formats: where a package is.
func (o *Output) prefix(text string) {
	if dir, id, ok := strings.Cut(text, " (external "); ok {
		e := o.parseID(strings.TrimSuffix(id, ")")).event(EventExternal)
		e.Prefix, e.Phase = dir, ""
		o.emit(e)
		return
	}
	base := text[strings.LastIndexByte(text, '/')+1:]
	id := o.done
	if id == "" || !strings.HasSuffix(text, id) {
		id = base
	}
	p := o.parseID(id)
	if p.hash == "" {
		return
	}
	e := p.event(EventInstalled)
	e.Phase, e.Prefix, e.Time, e.FromCache, e.Already = "", text, o.took, p.cached, id != o.done
	o.done, o.took, o.current, o.recent = "", 0, nil, nil
	o.emit(e)
}

// other reads lines without a mark.
func (o *Output) other(line string) {
	if start, end, ok := logLines(line); ok {
		if o.text.kind != summaryBlock || start <= o.text.last {
			if len(o.text.groups) >= maxFailures {
				return
			}
			o.text.groups = append(o.text.groups, nil)
		}
		o.text.kind, o.text.last = summaryBlock, end
		return
	}
	switch {
	case o.text.kind == failureBlock:
		o.failed(line)
	case o.text.kind == summaryBlock && (strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "> ")):
		o.text.add(line)
	case o.text.kind == errorBlock:
		o.text.add(line)
	case o.done != "" && strings.Contains(line, "Total: "):
		o.took = totalTime(line)
	default:
		o.keep(line)
	}
}

// logLines reads "-- lines 1 to 14 --".
func logLines(line string) (start, end int, ok bool) {
	words := strings.Fields(line)
	if len(words) != 6 || words[0] != "--" || words[1] != "lines" || words[3] != "to" || words[5] != "--" {
		return 0, 0, false
	}
	start, err := strconv.Atoi(words[2])
	end, endErr := strconv.Atoi(words[4])
	return start, end, err == nil && endErr == nil
}

// failed reads "name@version/hash: path" from the list at the end.
func (o *Output) failed(line string) {
	id, log, _ := strings.Cut(line, ": ")
	spec, hash, ok := strings.Cut(id, "/")
	name, version, isSpec := strings.Cut(spec, "@")
	if !ok || !isSpec || !isHash(hash) || !validName(name) {
		return
	}
	p := o.find(name, version, hash)
	o.fail(p, log, 0, nil)
	for i := range o.failures {
		if f := &o.failures[i]; f.Name == name && strings.HasPrefix(hash, f.Hash) {
			f.Hash = hash // the whole one
		}
	}
}

// endBlock says that a message is complete.
func (o *Output) endBlock() {
	b := o.text
	switch b.kind {
	case errorBlock:
		o.buildError(b.lines)
		b = block{}
	case summaryBlock:
		b.kind = noBlock // the groups are for the list of failures
	case failureBlock:
		o.explain(b.groups)
		b = block{}
	case noBlock:
	}
	o.text = b
}

// buildError is an error that, in older versions, may be why a package failed.
func (o *Output) buildError(lines []string) {
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	o.emit(Event{Kind: EventError, Text: strings.Join(lines, "\n")})
	if o.modern || aboutOthers(lines[0]) {
		return
	}
	p, log := o.current, ""
	if i := slices.Index(lines, "See build log for details:"); i >= 0 && i+1 < len(lines) {
		log = strings.TrimSpace(lines[i+1])
		lines = slices.Clone(lines[:i])
		p = cmp.Or(o.staged(log), p)
	}
	if p != nil {
		o.fail(p, log, 0, lines)
	}
}

// staged is the package in whose stage a log is, or nil.
func (o *Output) staged(log string) *progress {
	for part := range strings.SplitSeq(log, "/") {
		if id, ok := strings.CutPrefix(part, "spack-stage-"); ok {
			if p := o.parseID(id); p.hash != "" {
				return p
			}
		}
	}
	return nil
}

// explain gives the failures the lines of the summaries, which are in the same
// order. If there are not as many, those are right that name the package.
func (o *Output) explain(groups [][]string) {
	if len(groups) == len(o.failures) {
		for i := range groups {
			o.failures[i].Lines = groups[i]
		}
		return
	}
	for _, group := range groups {
		text := strings.Join(group, "\n")
		for i := range o.failures {
			f := &o.failures[i]
			if strings.Contains(text, "==> "+f.Name+":") || strings.Contains(text, f.Name+"-"+f.Version) || strings.Contains(text, f.Hash) {
				f.Lines = group
				break
			}
		}
	}
}

// keep remembers a line in case that nothing better explains a failure.
func (o *Output) keep(line string) {
	if len(o.recent) >= maxRecent {
		o.recent = slices.Delete(o.recent, 0, 1)
	}
	o.recent = append(o.recent, line)
}

func (o *Output) takeRecent() []string {
	lines := o.recent
	o.recent = nil
	return lines
}

// parseID reads name-version-hash. Names and versions may have dashes: unless
// the package is known, a version begins with the first digit after one.
func (o *Output) parseID(id string) *progress {
	const hashLength = 32
	dash := len(id) - hashLength - 1
	if dash < 1 || id[dash] != '-' || !validHash(id[dash+1:]) {
		return &progress{}
	}
	hash := id[dash+1:]
	if s := o.Specs[hash]; s != nil {
		return o.find(s.Name, s.Version, hash)
	}
	id = id[:dash]
	at := strings.LastIndexByte(id, '-')
	for i := 0; i+1 < len(id); i++ {
		if id[i] == '-' && id[i+1] >= '0' && id[i+1] <= '9' {
			at = i
			break
		}
	}
	if at < 1 {
		return &progress{}
	}
	return o.find(id[:at], id[at+1:], hash)
}

// fraction reads "[3/7]".
func fraction(s string) (number, total int) {
	a, b, _ := strings.Cut(strings.Trim(s, "[]"), "/")
	number, err := strconv.Atoi(a)
	total, totalErr := strconv.Atoi(b)
	if err != nil || totalErr != nil || number < 0 || total < number {
		return 0, 0
	}
	return number, total
}

// totalTime reads "Stage: 0.00s.  Install: 1m 2.05s.  Total: 1m 2.10s".
func totalTime(line string) time.Duration {
	_, total, _ := strings.Cut(line, "Total: ")
	took, err := time.ParseDuration(strings.TrimRight(strings.ReplaceAll(total, " ", ""), "."))
	if err != nil {
		return 0
	}
	return took
}
