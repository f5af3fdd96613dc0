//go:build integration

package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A event is a line of --progress json, as far as it matters here.
type event struct {
	Event  string `json:"event"`
	Stage  string `json:"stage"`
	Step   int    `json:"step"`
	Failed bool   `json:"failed"`
	// Stopped is set at the end of a step that a signal or another stage's
	// failure has ended.
	Stopped bool   `json:"stopped"`
	Line    string `json:"line"`
	Text    string `json:"text"`
}

func (e event) step() string { return fmt.Sprintf("%s/%d", e.Stage, e.Step) }

// phase names what the program does after the event.
func (e event) phase() string {
	switch e.Event {
	case "":
		return "opening"
	case "stage-start":
		return "pulling bases"
	case "commit":
		return "committing"
	case "transfer":
		return "exporting and pushing"
	case "output":
		switch { // the lines of a step's command have its stage
		case e.Stage == "":
			return "exporting and pushing"
		case strings.HasPrefix(e.Line, "[+]"):
			return "after packages"
		case strings.Contains(e.Line, " install "):
			return "building packages"
		}
	case "forecast":
		return "fetching packages"
	case "package":
		if strings.HasPrefix(e.Text, "building ") {
			return "building packages"
		}
		return "after packages"
	case "step-start":
		if what, _, _ := strings.Cut(e.Text, " "); what == "spack" || what == "environment" {
			return what + " steps"
		}
	case "step-end", "stage-end":
		return "between steps"
	}
	return "in steps"
}

// A victim is a program that is going to be killed.
type victim struct {
	cmd    *exec.Cmd
	events chan event
	text   strings.Builder
}

// start starts the program with its events in a channel that is closed when
// nobody can send any more.
func (st *store) start(args ...string) *victim {
	st.t.Helper()
	v := &victim{cmd: st.command(args...), events: make(chan event, 10000)}
	out, err := v.cmd.StderrPipe()
	if err == nil {
		err = v.cmd.Start()
	}
	if err != nil {
		st.t.Fatal(err)
	}
	go func() {
		defer close(v.events)
		v.read(out)
	}()
	return v
}

func (v *victim) read(from io.Reader) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Event == "error" {
			fmt.Fprintln(&v.text, lines.Text()) // read by nobody before the channel is closed
			e = event{Event: "output"}
		}
		v.events <- e
	}
}

// A moment is when to kill: so long after so many events.
type moment struct {
	events int
	delay  time.Duration
}

// wait waits for the moment and returns the events until then; ended says
// that the program was faster.
func (v *victim) wait(m moment) (seen []event, ended bool) {
	for len(seen) < m.events {
		e, ok := <-v.events
		if !ok {
			return seen, true
		}
		seen = append(seen, e)
	}
	for after := time.After(m.delay); ; {
		select {
		case e, ok := <-v.events:
			if !ok {
				return seen, true
			}
			seen = append(seen, e)
		case <-after:
			return seen, false
		}
	}
}

// kill kills the program in one of the ways in which programs are, and waits
// until nothing of it is left.
func (v *victim) kill(t *testing.T, way int) (seen []event) {
	pid := v.cmd.Process.Pid
	switch way % 3 {
	case 0: // the out-of-memory killer, kill -9 PID
		_ = syscall.Kill(pid, syscall.SIGKILL)
	case 1: // a batch system: the process group
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	default: // power: everything at once
		tree := descendants(pid)
		for _, p := range append(tree, pid) {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
	gone := time.AfterFunc(time.Minute, func() { t.Errorf("a minute after the kill its output is still open: %v", descendants(pid)) })
	defer gone.Stop()
	for e := range v.events {
		seen = append(seen, e)
	}
	_ = v.cmd.Wait() // killed
	return seen
}

func descendants(root int) (all []int) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		text := string(data)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// finished are the steps that have ended well.
func finished(events []event) (steps []string) {
	for _, e := range events {
		if e.Event == "step-end" && !e.Failed && !e.Stopped {
			steps = append(steps, e.step())
		}
	}
	return steps
}

// repeated are the steps of done that were executed again.
func repeated(done []string, events []event) (again []string) {
	for _, e := range events {
		if e.Event == "step-start" && slices.Contains(done, e.step()) {
			again = append(again, e.step())
		}
	}
	return again
}

// quiet waits until processes that were killed are gone, and returns what is
// left then.
func (st *store) quiet() (left []string) {
	for range 600 {
		if left = st.outside(); len(left) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return left
}
