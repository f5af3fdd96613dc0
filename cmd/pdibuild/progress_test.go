package main

import (
	"bytes"
	"testing"
)

// What a step prints must not steer the terminal; a log or a pipe gets it as it
// is, colours included.
func TestPlainOutputOnTerminals(t *testing.T) {
	const printed = "\x1b]0;owned\x07\x1b[31mred\x1b[0m 10%\r100%"
	for terminal, want := range map[bool]string{true: "build | 100%\n", false: "build | " + printed + "\n"} {
		a := newTestApp(&fakeEngine{})
		a.terminal = func() (int, int, bool) { return 0, 0, terminal } // of unknown size
		p := a.newPrinter(progressFlags{mode: "plain"})
		p.Output("build", 1, []byte(printed))
		p.Close()
		if got := a.err.String(); got != want {
			t.Errorf("terminal %v: %q, want %q", terminal, got, want)
		}
	}
}

func TestAutoProgress(t *testing.T) {
	for name, test := range map[string]struct {
		terminal bool
		env      map[string]string
		live     bool
	}{
		"terminal":      {true, map[string]string{"TERM": "xterm"}, true},
		"pipe":          {false, map[string]string{"TERM": "xterm"}, false},
		"dumb terminal": {true, map[string]string{"TERM": "dumb"}, false},
		"CI":            {true, map[string]string{"TERM": "xterm", "CI": "true"}, false},
	} {
		a := &app{
			stderr:   &bytes.Buffer{},
			terminal: func() (int, int, bool) { return 80, 24, test.terminal },
			lookup:   func(n string) (string, bool) { v, ok := test.env[n]; return v, ok },
		}
		p := a.unmaskedPrinter(progressFlags{mode: "auto"})
		if _, live := p.(*livePrinter); live != test.live {
			t.Errorf("%s: live is %v, want %v", name, live, test.live)
		}
		p.Close()
	}
}
