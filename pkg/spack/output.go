package spack

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/termtext"
)

// An EventKind is what an Event says.
type EventKind int

// The kinds of events.
const (
	// EventPhase: a package has entered a phase, such as "fetching from build
	// cache", "staging", "cmake" or "install".
	EventPhase EventKind = iota + 1
	// EventInstalled: a package is there, in Prefix.
	EventInstalled
	// EventExternal: a package of the system is used, in Prefix.
	EventExternal
	// EventFailed: a package could not be installed; Log is what to read.
	EventFailed
	// EventSkipped: a package was not tried since another has failed.
	EventSkipped
	// EventPushed: a package is in a binary cache.
	EventPushed
	// EventWarning and EventError are messages that are not about a package.
	EventWarning
	EventError
)

// An Event is what one line of Spack's output, or a few, say.
type Event struct {
	Kind EventKind
	// Name, Version and Hash are the package's. Hash is as Spack prints it,
	// and so may have seven letters, unless Output.Specs knows the package.
	Name, Version, Hash string
	Phase               string
	Prefix, Log         string
	// Time is how long the package has taken so far.
	Time time.Duration
	// FromCache says that an installed package was not compiled, Already that
	// it had been there before.
	FromCache, Already bool
	// Number of Total is the package that is begun, where Spack says so.
	Number, Total int
	// Text is that of a warning or an error.
	Text string
}

// A Failure is a package that could not be installed.
type Failure struct {
	Name, Version, Hash string
	// Phase is what it failed in, Log the path of its log.
	Phase, Log string
	// Lines are those of the log that Spack thinks tell why.
	Lines []string
}

// An Output understands what spack install prints when that is not a
// terminal, and hands on what it says. It is an io.Writer that never fails;
// Close it at the end. The zero value is ready to be used.
type Output struct {
	// Handle is called for each event, in the order of the output, from within
	// Write and Close. It may be nil.
	Handle func(Event)
	// Specs are those of the lock file, if known: with them, events have the
	// whole hash, and older formats are read without guessing.
	Specs Graph

	line     []byte
	afterCR  bool // the line before ended with a carriage return
	byShort  map[string]*Spec
	packages map[string]*progress // by name and short hash
	current  *progress            // in formats with one package at a time
	modern   bool                 // the format of Spack 1.1 and later
	took     time.Duration        // said by the line before
	done     string               // the package that was said to be installed
	text     block                // what the lines that follow belong to
	recent   []string             // lines without a meaning, for failures without a summary
	failures []Failure
}

// progress is what is known about a package.
type progress struct {
	name, version, hash string
	phase               string
	cached, failed      bool
}

// Limits that keep strange output from using up memory.
const (
	maxLine     = 64 << 10
	maxPackages = 100_000
	maxFailures = 1000
	maxLines    = 200 // of one failure
	maxRecent   = 30
)

// Write takes a part of the output.
func (o *Output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexAny(rest, "\r\n")
		part := rest
		if end >= 0 {
			part = rest[:end]
		}
		o.line = append(o.line, part[:min(len(part), maxLine-len(o.line))]...)
		if end < 0 {
			break
		}
		if rest[end] != '\n' || !o.afterCR || len(o.line) > 0 {
			o.endLine()
		}
		o.afterCR = rest[end] == '\r'
		rest = rest[end+1:]
	}
	return len(p), nil
}

// Close says that there is no more.
func (o *Output) Close() error {
	o.endLine()
	o.endBlock()
	return nil
}

// Failures returns the packages that could not be installed, complete after
// Close.
func (o *Output) Failures() []Failure { return o.failures }

func (o *Output) endLine() {
	line := strings.TrimRight(termtext.Strip(string(o.line)), " \t")
	o.line = o.line[:0]
	if strings.TrimSpace(line) == "" {
		o.text.blank()
		return
	}
	switch {
	case o.status(line):
		o.modern = true
	case strings.HasPrefix(line, "==> "):
		o.endBlock()
		o.message(line[len("==> "):])
	case strings.HasPrefix(line, "[+] "):
		o.endBlock()
		o.prefix(line[len("[+] "):])
	default:
		o.other(line)
	}
}

func (o *Output) emit(e Event) {
	if o.Handle != nil {
		o.Handle(e)
	}
}

// find returns what is known about a package, and completes its hash.
func (o *Output) find(name, version, hash string) *progress {
	if o.byShort == nil {
		o.byShort, o.packages = map[string]*Spec{}, map[string]*progress{}
		for _, s := range o.Specs {
			o.byShort[s.Name+"/"+s.ShortHash()] = s
		}
	}
	if len(hash) < 7 {
		return &progress{name: name, version: version, hash: hash}
	}
	key := name + "/" + hash[:7]
	p := o.packages[key]
	if p == nil {
		p = &progress{name: name, version: version, hash: hash}
		if s := o.byShort[key]; s != nil && strings.HasPrefix(s.Hash, hash) {
			p.version, p.hash = s.Version, s.Hash
		}
		if len(o.packages) < maxPackages {
			o.packages[key] = p
		}
	}
	return p
}

func (p *progress) event(kind EventKind) Event {
	return Event{Kind: kind, Name: p.name, Version: p.version, Hash: p.hash, Phase: p.phase}
}

// status reads "[ ] hash7 name@version phase (4s)" and its variants.
func (o *Output) status(line string) bool {
	const head = len("[ ] 1234567 ")
	if len(line) < head || line[0] != '[' || line[2:4] != "] " || line[head-1] != ' ' || !isHash(line[4:head-1]) {
		return false
	}
	id, rest, ok := strings.Cut(line[head:], " ")
	name, version, isSpec := strings.Cut(id, "@")
	if !ok || !isSpec || !validName(name) || !validVersion(version) {
		return false
	}
	mark := line[1]
	if !strings.ContainsRune(" +xe", rune(mark)) {
		return false
	}
	o.endBlock()
	rest, took := cutTime(rest)
	p := o.find(name, version, line[4:head-1])
	switch mark {
	case 'e', '+':
		e := p.event(EventInstalled)
		if mark == 'e' {
			e = p.event(EventExternal)
		}
		e.Phase, e.Prefix, e.Time, e.FromCache = "", rest, took, p.cached
		o.emit(e)
	case 'x':
		log, _ := strings.CutPrefix(rest, "failed")
		o.fail(p, strings.TrimPrefix(log, ": "), took, o.takeRecent())
	default:
		o.enter(p, rest, took)
	}
	return true
}

// enter says that a package is in a new phase.
func (o *Output) enter(p *progress, phase string, took time.Duration) {
	switch phase {
	case phaseRelocating, phaseExtracting:
		p.cached = true
	case phaseNoBinary:
		p.cached = false
	}
	p.phase = phase
	e := p.event(EventPhase)
	e.Time = took
	o.emit(e)
}

// Phases that are not the package's own.
const (
	phaseStarting   = "starting"
	phaseFromCache  = "fetching from build cache"
	phaseNoBinary   = "no binary available"
	phaseRelocating = "relocating"
	phaseExtracting = "extracting"
)

// Building reports whether an EventPhase is about a package that is being made
// from its sources, not looked for or taken from a binary cache.
func (e Event) Building() bool {
	switch e.Phase {
	case phaseStarting, phaseFromCache, phaseNoBinary, phaseRelocating, phaseExtracting, "":
		return false
	}
	return e.Kind == EventPhase
}

// fail notes a failure, once, and says it.
func (o *Output) fail(p *progress, log string, took time.Duration, lines []string) {
	if p.failed {
		return
	}
	p.failed = true
	if len(o.failures) < maxFailures {
		o.failures = append(o.failures, Failure{
			Name: p.name, Version: p.version, Hash: p.hash, Phase: p.phase, Log: log, Lines: lines,
		})
	}
	e := p.event(EventFailed)
	e.Log, e.Time = log, took
	o.emit(e)
}

func isHash(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// cutTime takes " (1m02s)" off the end.
func cutTime(s string) (string, time.Duration) {
	i := strings.LastIndex(s, " (")
	if i < 0 || !strings.HasSuffix(s, ")") {
		return s, 0
	}
	took, err := time.ParseDuration(s[i+2 : len(s)-1])
	if err != nil {
		return s, 0
	}
	return s[:i], took
}

// String is name@version/hash7.
func (f Failure) String() string {
	return fmt.Sprintf("%s@%s/%s", f.Name, f.Version, f.Hash[:min(7, len(f.Hash))])
}
