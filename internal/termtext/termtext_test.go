package termtext_test

import (
	"testing"

	"github.com/pdidev/pdibuild/internal/termtext"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                        "plain",
		"\x1b[1;31mred\x1b[0m":         "red",
		"a\tb":                         "a b",
		"bell\x07":                     "bell",
		"\x1b]0;title\x07text":         "text",
		"\x1b]8;;http://x\x1b\\link":   "link",
		"\x1bP1;2|payload\x1b\\after":  "after",
		"\x1b_command\x1b\\after":      "after",
		"\x1b]0;never ended":           "",
		"\u009b31mred":                 "31mred",
		"up\x1b[2Aup":                  "upup",
		"\x1b":                         "",
		"umlaut ä\x00":                 "umlaut ä",
		"not \xff utf-8 \x01 but \x02": "not \uFFFD utf-8  but ",
		"10%\r50%\r100%":               "100%",
		"dos\r\n":                      "dos",
		"漢字 \x1b[2J→":                  "漢字 →",
	} {
		if got := termtext.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	if got := termtext.Lines("a\r\n\x1b[31mb\x1b[0m\n\tc"); got != "a\nb\n c" {
		t.Errorf("got %q", got)
	}
}

func TestStrip(t *testing.T) {
	if got := termtext.Strip("\x1b[0;32m==>\x1b[0m\tgcc\x00\n"); got != "==>\tgcc\n" {
		t.Errorf("got %q", got)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("\x1b]0;x\x07\r\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range termtext.Line(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Errorf("Line(%q) has %q", s, r)
			}
		}
	})
}
