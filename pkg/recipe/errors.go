package recipe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pdidev/pdibuild/pkg/failure"
)

// An Error is one thing that is wrong with a recipe.
type Error struct {
	// File, Line and Column (both from 1) say where. For a recipe that was
	// made in Go, Line is 0 and Path says it instead.
	File         string
	Line, Column int
	// Path is the place in the data, such as stages[1].steps[0].from.
	Path string
	// Message is what is wrong, Suggestion what may have been meant.
	Message, Suggestion string
	// Source is the line of the file.
	Source string
	// Code and Data are the cause for programs that have a way out of their own.
	Code failure.Code
	Data failure.Data
}

// Error is one line: file:line:column: what is wrong (did you mean "x"?).
func (e *Error) Error() string {
	where := e.Path
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	} else if where == "" {
		where = e.File
	}
	text := e.Message
	if where != "" {
		text = where + ": " + text
	}
	if e.Suggestion != "" {
		text += fmt.Sprintf(" (did you mean %q?)", e.Suggestion)
	}
	return strings.Map(printable, text) // keys and tags may have any characters
}

// Snippet is the source line with a caret below the column, or "".
func (e *Error) Snippet() string {
	if e.Source == "" || e.Column < 1 {
		return ""
	}
	runes := []rune(strings.Map(printable, e.Source))
	const width = 100
	start := 0
	if len(runes) > width && e.Column > width/2 {
		start = min(e.Column-width/2, len(runes)-width)
	}
	line := string(runes[start:min(start+width, len(runes))])
	gutter := fmt.Sprintf("%5d | ", e.Line)
	return gutter + line + "\n" + strings.Repeat(" ", len(gutter)-2) + "| " + strings.Repeat(" ", max(e.Column-1-start, 0)) + "^"
}

// printable keeps a line one line and a terminal as it is.
func printable(r rune) rune {
	if r == '\t' || !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

// maxErrors is the most that is reported at once. A file with more is no
// recipe but something else.
const maxErrors = 100

// subject puts the key in front of a message that begins with its verb.
func subject(path, message string) string {
	verb, _, _ := strings.Cut(message, " ")
	switch verb {
	case "must", "is", "names", "does", "reads", "needs", "cannot":
	default:
		return message
	}
	if path == "" {
		return "the recipe " + message
	}
	key, _, _ := strings.Cut(path[strings.LastIndexByte(path, '.')+1:], "[")
	return key + ": " + message
}

// Errors are all that is wrong with a recipe, in the order of the file.
type Errors []*Error

// Error is one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find an *Error.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i := range e {
		errs[i] = e[i]
	}
	return errs
}

// add appends err unless there are too many already.
func (e *Errors) add(err *Error) {
	if !e.full() {
		*e = append(*e, err)
	}
}

// full says that there is one error more than will be reported.
func (e *Errors) full() bool { return len(*e) > maxErrors }

// orNil sorts the errors and removes repetitions; no errors are nil.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	e = e.sorted()
	if len(e) > maxErrors {
		e = append(e[:maxErrors:maxErrors], &Error{File: e[0].File, Message: "there are more errors; correct these first"})
	}
	return e
}

func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(e, func(a, b *Error) bool { return a.Error() == b.Error() })
}
