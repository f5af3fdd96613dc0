// Package termtext makes text of programs, images and recipes fit for a
// terminal: nothing in it moves the cursor, changes colours or sets a title.
package termtext

import (
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// Strip removes escape sequences and control characters, but for tabs and ends
// of lines.
func Strip(s string) string {
	if !strings.ContainsFunc(s, isOdd) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if isOdd(r) && r != unicode.ReplacementChar {
			return -1
		}
		return r
	}, ansi.Strip(strings.ToValidUTF8(s, string(unicode.ReplacementChar))))
}

func isOdd(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' || r == unicode.ReplacementChar
}

// Line is a line as a terminal shows it in the end: of what overwrites itself
// with a carriage return, the last version. A tab is a space.
func Line(s string) string {
	s = strings.TrimRight(s, "\r\n")
	s = s[strings.LastIndexByte(s, '\r')+1:]
	return strings.NewReplacer("\t", " ", "\n", " ").Replace(Strip(s))
}

// Lines is Line for each line.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Line(lines[i])
	}
	return strings.Join(lines, "\n")
}

// FirstLine is the first line of a text, with a mark where there is more.
func FirstLine(text string) string {
	line, rest, more := strings.Cut(text, "\n")
	if more && strings.TrimSpace(rest) != "" {
		return line + " …"
	}
	return line
}
