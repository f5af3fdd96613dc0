package progress

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

var finished = Result{
	ImageID: strings.Repeat("ab", 32), Digest: "sha256:" + strings.Repeat("cd", 32),
	Names: []string{"localhost/demo:latest"}, Size: 12_345_678, Layers: 2, Cached: 1, Executed: 1,
	Duration: 75 * time.Second, LogDir: "/logs/1",
}

// shownBuild shows a build with one cached and one executed step.
func shownBuild(p Printer) {
	for _, e := range []Event{
		{Kind: Info, Text: "isolation: chroot"},
		{Kind: StageStart, Stage: "final", Steps: 3, Text: "scratch"},
		{Kind: StepCached, Stage: "final", Step: 2, Steps: 3, Text: "copy a b"},
		{Kind: StepStart, Stage: "final", Step: 3, Steps: 3, Text: "run make\nmake install"},
	} {
		p.Event(e)
	}
	p.Output("final", 3, []byte("cc -o hello"))
	for _, e := range []Event{
		{Kind: Warning, Text: "secret x is short"},
		{Kind: StepEnd, Stage: "final", Step: 3, Steps: 3, Text: "run make\nmake install", Duration: 1500 * time.Millisecond},
		{Kind: StageEnd, Stage: "final", Steps: 3, Duration: 2 * time.Second},
		{Kind: Commit},
	} {
		p.Event(e)
	}
	p.Result(&finished)
	p.Close()
}

func TestPlainProgress(t *testing.T) {
	const want = `[final 2/3] cached: copy a b
[final 3/3] run make …
final | cc -o hello
pdibuild: warning: secret x is short
[final 3/3] done in 1.5s
writing the image
built sha256:abababababababababababababababababababababababababababababababab in 1m15s
  name   localhost/demo:latest
  size   12.3 MB in 2 layers
  steps  1 executed, 1 cached
  longest    1.5s  [final 3/3] run make …
  logs   /logs/1
`
	var out bytes.Buffer
	shownBuild(NewPlain(&out, PlainOptions{}))
	if got := out.String(); got != want {
		t.Errorf("progress is\n%s\nwant\n%s", got, want)
	}
}

func TestVerboseProgressExplains(t *testing.T) {
	var out bytes.Buffer
	shownBuild(NewPlain(&out, PlainOptions{Verbose: true}))
	if !strings.Contains(out.String(), "pdibuild: isolation: chroot\n") {
		t.Errorf("-v does not show the choice of isolation:\n%s", out.String())
	}
}

func TestQuietProgressWarns(t *testing.T) {
	var out bytes.Buffer
	shownBuild(NewPlain(&out, PlainOptions{Quiet: true}))
	if got, want := out.String(), "pdibuild: warning: secret x is short\n"; got != want {
		t.Errorf("-q shows %q, want %q", got, want)
	}
}

func TestJSONProgress(t *testing.T) {
	var out bytes.Buffer
	shownBuild(NewJSON(&out, false))
	var kinds []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var e struct {
			Event string    `json:"event"`
			Time  time.Time `json:"time"`
			Line  string    `json:"line"`
			ID    string    `json:"image_id"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q is not JSON: %v", line, err)
		}
		if e.Time.IsZero() {
			t.Errorf("%q has no time", line)
		}
		if e.Event == "output" && e.Line != "cc -o hello" {
			t.Errorf("output line is %q", e.Line)
		}
		if e.Event == "result" && e.ID != finished.ImageID {
			t.Errorf("result has the id %q", e.ID)
		}
		kinds = append(kinds, e.Event)
	}
	const want = "info stage-start step-cached step-start output warning step-end stage-end commit result"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("events are %q, want %q", got, want)
	}
}

// A liveScreen is a terminal of 40 by 24 whose clock stands still.
func liveScreen(out *bytes.Buffer) *Terminal {
	return &Terminal{
		w:    out,
		opt:  TerminalOptions{Size: func() (int, int, bool) { return 40, 24, true }},
		now:  func() time.Time { return time.Unix(0, 0) },
		stop: make(chan struct{}), done: closedChannel(),
	}
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

func TestLiveLinesFitTheTerminal(t *testing.T) {
	var out bytes.Buffer
	p := liveScreen(&out)
	p.Event(Event{Kind: StageStart, Stage: "builder", Steps: 5, Text: "docker.io/library/debian:12"})
	p.Event(Event{Kind: StepStart, Stage: "builder", Step: 2, Steps: 5, Text: "run " + strings.Repeat("語", 60)})
	p.Event(Event{Kind: StageStart, Stage: "final", Steps: 2, Text: "scratch"})
	p.Event(Event{Kind: StepStart, Stage: "final", Step: 2, Steps: 2, Text: "run x"})
	p.Output("final", 2, []byte("\x1b[31mred\x1b[0m\tand "+strings.Repeat("long ", 20)))
	p.mu.Lock()
	lines := p.lines()
	p.mu.Unlock()
	if len(lines) != 2 {
		t.Fatalf("there are %d live lines for two stages: %q", len(lines), lines)
	}
	for _, line := range lines {
		if w := ansi.StringWidth(escapes.ReplaceAllString(line, "")); w >= 40 {
			t.Errorf("%q is %d cells wide, the terminal 40", line, w)
		}
	}
	if !strings.Contains(lines[0], "[builder 2/5] run 語") {
		t.Errorf("%q does not name the step", lines[0])
	}
	if !strings.Contains(lines[1], "red and") {
		t.Errorf("%q does not show the last output line without its colours", lines[1])
	}
	p.Close()
}

func TestFinishedStepsScrollUp(t *testing.T) {
	var out bytes.Buffer
	p := liveScreen(&out)
	shownBuild(p)
	p.Event(Event{Kind: Warning, Text: "too late"})
	text := escapes.ReplaceAllString(out.String(), "")
	for _, want := range []string{"[final 2/3] cached: copy a b\n", "[final 3/3] run make …  1.5s\n", "warning: secret x is short\n", "built sha256:abab"} {
		if !strings.Contains(text, want) {
			t.Errorf("the screen lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "too late") {
		t.Error("something is shown after Close")
	}
	if len(p.drawn) != 0 {
		t.Errorf("%d live lines are left", len(p.drawn))
	}
}

func TestMessagesAreShownInFull(t *testing.T) {
	for _, kind := range []Kind{Info, Warning} {
		var plainOut, liveOut bytes.Buffer
		for _, p := range []Printer{NewPlain(&plainOut, PlainOptions{Verbose: true}), func() Printer {
			p := liveScreen(&liveOut)
			p.opt.Verbose = true
			return p
		}()} {
			p.Event(Event{Kind: kind, Text: "isolation: chroot\nbecause runc failed\x07"})
			p.Close()
		}
		if !strings.Contains(plainOut.String(), "isolation: chroot\n  because runc failed") {
			t.Errorf("%s: plain shows %q", kind, &plainOut)
		}
		if !strings.Contains(escapes.ReplaceAllString(liveOut.String(), ""), "isolation: chroot\n  because runc failed") || strings.Contains(liveOut.String(), "\x07") {
			t.Errorf("%s: the terminal shows %q", kind, &liveOut)
		}
	}
}

// installing is the moment in which the second of twelve packages is there.
func installing() Event {
	left := 17*time.Minute + 4*time.Second
	return Event{
		Kind: Package, Stage: "builder", Step: 2, Steps: 3, Text: "zlib@1.3 built in 4 s", Done: 2, Total: 12,
		Packages: &Packages{FromCache: 1, Built: 1, Building: []string{"hdf5@1.14"}, Remaining: &left},
	}
}

func TestPackagesArePlain(t *testing.T) {
	var out bytes.Buffer
	p := NewPlain(&out, PlainOptions{})
	p.Event(installing())
	unknown := installing()
	unknown.Packages.Remaining = nil
	p.Event(unknown)
	const want = `[builder 2/3] packages 2/12 (1 from the cache): zlib@1.3 built in 4 s; about 17m left
[builder 2/3] packages 2/12 (1 from the cache): zlib@1.3 built in 4 s
`
	if got := out.String(); got != want {
		t.Errorf("packages are\n%s\nwant\n%s", got, want)
	}
}

func TestPackagesAreJSON(t *testing.T) {
	var out bytes.Buffer
	NewJSON(&out, false).Event(installing())
	const want = `"packages":{"from_cache":1,"built":1,"failed":0,"building":["hdf5@1.14"],"remaining_ns":1024000000000}`
	if got := out.String(); !strings.Contains(got, want) {
		t.Errorf("packages are %s, want %s", got, want)
	}
}

// The live line says what is being built, and counts the time left down.
func TestPackagesAreLive(t *testing.T) {
	var out bytes.Buffer
	p := liveScreen(&out)
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	p.opt.Size = func() (int, int, bool) { return 120, 24, true }
	p.Event(installing())
	now = now.Add(5 * time.Minute)
	lines := strings.Join(p.lines(), "\n")
	for _, want := range []string{"packages 2/12 (1 from the cache): building hdf5@1.14", "5m00s, about 12m left"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the live line is %q and lacks %q", lines, want)
		}
	}
	p.Event(Event{Kind: StepEnd, Stage: "builder", Step: 2, Steps: 3})
	p.Event(Event{Kind: StepStart, Stage: "builder", Step: 3, Steps: 3, Text: "run make"})
	if lines := strings.Join(p.lines(), "\n"); strings.Contains(lines, "left") {
		t.Errorf("the next step has the time left of the last: %q", lines)
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		4 * time.Second: "4s", 62 * time.Second: "60s", 10*time.Minute + 40*time.Second: "11m", 2*time.Hour + 58*time.Minute: "3h00m", 50 * time.Hour: "50h00m",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%s is roughly %s, want %s", d, got, want)
		}
	}
}

// The bytes of a transfer, its rate and what is left are in the live line, cut
// to the terminal, and in plain lines now and then.
func TestTransferProgress(t *testing.T) {
	now := time.Now()
	e := Event{
		Kind: Transfer, Stage: "push", Text: "registry.example.org/group/name:1", Time: now,
		Done: 120_000_000, Total: 250_000_000, Rate: 12_000_000, Remaining: 11 * time.Second,
	}
	const want = "120 MB of 250 MB, 12 MB/s, 11.0s left"
	if got := TransferText(e); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var out bytes.Buffer
	p := NewPlain(&out, PlainOptions{})
	p.Event(e)
	e.Time = now.Add(TransferInterval)
	p.Event(e)
	if got := out.String(); got != "[push] registry.example.org/group/name:1 "+want+"\n" {
		t.Errorf("plain lines are %q, want one", got)
	}
	for _, width := range []int{80, 40, 10} {
		r := &row{stage: "push", prefix: "[push] ", text: e.Text, last: TransferText(e), start: now}
		line := strings.NewReplacer(faint, "", plain, "").Replace(r.line("|", now.Add(time.Minute), width))
		if got := ansi.StringWidth(line); got >= width {
			t.Errorf("%d cells in a terminal of %d: %q", got, width, line)
		}
		if width == 80 && !strings.Contains(line, "120 MB of 250 MB, 12 MB/s") {
			t.Errorf("the line does not tell how far it is: %q", line)
		}
	}
}

func TestLongestSteps(t *testing.T) {
	var s stopwatch
	for i, d := range []time.Duration{3, 0, 9, 1, 5, 7, 2, 8} {
		s.note(Event{Kind: StepEnd, Step: i, Duration: d * time.Second})
	}
	var got []int
	for _, e := range s.steps {
		got = append(got, int(e.Duration/time.Second))
	}
	if want := []int{9, 8, 7, 5, 3}; !slices.Equal(got, want) {
		t.Errorf("the longest are %v, want %v", got, want)
	}
}

// A step that was stopped has not failed.
func TestStoppedStep(t *testing.T) {
	stopped := Event{Kind: StepEnd, Stage: "final", Step: 2, Steps: 3, Text: "run make", Duration: 4400 * time.Millisecond, Stopped: true}
	var plainOut, liveOut, jsonOut bytes.Buffer
	live := liveScreen(&liveOut)
	for _, p := range []Printer{NewPlain(&plainOut, PlainOptions{Verbose: true}), live, NewJSON(&jsonOut, false)} {
		p.Event(stopped)
		p.Event(Event{Kind: StageEnd, Stage: "final", Stopped: true})
		p.Close()
	}
	for _, out := range []string{plainOut.String(), liveOut.String(), jsonOut.String()} {
		if !strings.Contains(out, "stopped") || strings.Contains(out, "failed") || strings.Contains(out, "finished in") {
			t.Errorf("it says %q", out)
		}
	}
}

// What stays on a terminal fits it, or is broken between words.
func TestFinishedLinesFit(t *testing.T) {
	long := "run apt-get update && apt-get install -y --no-install-recommends g++ make…"
	for _, width := range []int{40, 80, 200} {
		var out bytes.Buffer
		p := liveScreen(&out)
		p.opt.Size = func() (int, int, bool) { return width, 24, true }
		for _, e := range []Event{
			{Kind: StepCached, Stage: "builder", Step: 2, Steps: 12, Text: long},
			{Kind: StepEnd, Stage: "builder", Step: 2, Steps: 12, Text: long, Duration: 64 * time.Second},
			{Kind: StepEnd, Stage: "builder", Step: 2, Steps: 12, Text: long, Duration: 64 * time.Second, Failed: true},
			{Kind: Warning, Text: "secret x is so short that output and layers cannot be searched for it, and this goes on for a while"},
		} {
			p.Event(e)
		}
		p.Result(&finished)
		p.Close()
		shown := escapes.ReplaceAllString(strings.ReplaceAll(out.String(), "\r", ""), "")
		for line := range strings.Lines(shown) {
			line = strings.TrimRight(line, "\n")
			if ansi.StringWidth(line) >= width && !strings.Contains(line, finished.ImageID) { // which stays whole
				t.Errorf("%d cells in a terminal of %d: %q", ansi.StringWidth(line), width, line)
			}
		}
		for _, want := range []string{"1m04s", "failed after 1m04s", finished.ImageID, "goes on"} {
			if !strings.Contains(strings.Join(strings.Fields(shown), " "), want) {
				t.Errorf("width %d: no %q in %q", width, want, shown)
			}
		}
	}
}
