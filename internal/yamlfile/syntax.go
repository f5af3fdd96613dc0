package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// splitLines breaks a text where the YAML library counts a line.
func splitLines(text string) []string {
	var lines []string
	start := 0
	for i, r := range text {
		switch r {
		case '\r', '\n', '\u0085', '\u2028', '\u2029':
		default:
			continue
		}
		if r != '\n' || i == 0 || text[i-1] != '\r' {
			lines = append(lines, text[start:i])
		}
		start = i + utf8.RuneLen(r)
	}
	return append(lines, text[start:])
}

// checkText reports bytes that no YAML file has.
func checkText(data []byte, kind Kind) *Problem {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return &Problem{Message: "is UTF-16 text; save it as UTF-8"}
	}
	for i, r := range string(data) {
		message := ""
		switch {
		case r == utf8.RuneError && !bytes.HasPrefix(data[i:], []byte("\uFFFD")):
			message = "is not UTF-8 text; save the file as UTF-8"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f, r > 0x7f && r < 0xa0 && r != 0x85:
			message = fmt.Sprintf("the control character %U is not allowed in %s", r, kind.Name)
		default:
			continue
		}
		before := splitLines(string(data[:i]))
		return &Problem{len(before), utf8.RuneCountInString(before[len(before)-1]) + 1, message}
	}
	return nil
}

// syntaxProblem gives the library's message a place. The library names the line
// where the surrounding block began, or none; what a reader needs is the first
// line that does not fit what is above it.
func (f *File) syntaxProblem(err error) *Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = strings.TrimPrefix(text, m[0])
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			line = min(n, len(f.Lines))
		}
	}
	if n := badLine(f.Lines); n > 0 {
		line = n
	}
	source := f.Source(line)
	indent := source[:len(source)-len(strings.TrimLeft(source, " \t"))]
	column := len(indent) + 1
	if i := strings.IndexByte(indent, '\t'); i >= 0 {
		column, text = i+1, "a tab cannot indent in YAML; use spaces"
	} else {
		text = explainSyntax(text)
		if i := strings.IndexAny(source, `"'`); i >= 0 && strings.HasPrefix(text, "a quote is opened") {
			column = utf8.RuneCountInString(source[:i]) + 1
		}
	}
	return &Problem{line, column, text}
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// badLine is the line after the longest beginning of the file that is good
// YAML, or 0 when that would take too long to find out.
func badLine(lines []string) int {
	const limit = 500
	if len(lines) > limit {
		return 0
	}
	for n := len(lines) - 1; n > 0; n-- {
		if strings.TrimSpace(lines[n-1]) == "" {
			continue
		}
		_, _, err := documents([]byte(strings.Join(lines[:n], "\n") + "\n"))
		if err == nil || errors.Is(err, io.EOF) {
			for n < len(lines)-1 && isBlank(lines[n]) {
				n++
			}
			return n + 1
		}
	}
	return 1
}

func isBlank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// explainSyntax says in the words of a file's writer what the library says
// in those of a scanner.
func explainSyntax(text string) string {
	for _, known := range []struct{ part, means string }{
		{"mapping values are not allowed", "a second ': ' cannot be here; quote the value, or check the indentation"},
		{"did not find expected key", "this line does not fit the lines above; check its indentation and the quotes"},
		{"did not find expected '-' indicator", "this line does not fit the list above; check its indentation, or begin it with '- '"},
		{"block sequence entries are not allowed", "a list cannot begin here; put it on lines of its own"},
		{"found character that cannot start any token", "a value cannot begin with this character; quote it"},
		{"could not find expected ':'", "a key needs ': ' behind it; check the indentation and the quotes"},
		{"found unexpected end of stream", "a quote is opened here and not closed"},
		{"did not find expected ',' or ']'", "a list that is opened with [ here is not closed, or lacks a comma"},
		{"did not find expected ',' or '}'", "a map that is opened with { here is not closed, or lacks a comma"},
		{"found unknown escape character", `there is no such escape in "…"; use '…' or double the backslash`},
	} {
		if strings.Contains(text, known.part) {
			return known.means
		}
	}
	return "is not YAML: " + text
}
