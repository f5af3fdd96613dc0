package spack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// An Error is one thing that is wrong with a file that people write.
type Error struct {
	// File, Line and Column (both from 1) say where. Line is 0 when the error
	// is not at one place of the file.
	File         string
	Line, Column int
	// Path is the place in the data, such as container.images.os.
	Path string
	// Message is what is wrong, Suggestion what may have been meant.
	Message, Suggestion string
	// Source is the line of the file.
	Source string
}

// Error is one line: file:line:column: what is wrong (did you mean "x"?).
func (e *Error) Error() string {
	text := e.Message
	if e.Line > 0 {
		text = fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, text)
	} else if e.File != "" {
		text = e.File + ": " + text
	}
	if e.Suggestion != "" {
		text += fmt.Sprintf(" (did you mean %q?)", e.Suggestion)
	}
	return strings.Map(printable, text) // keys may have any characters
}

// printable keeps a line one line and a terminal as it is.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

// Errors are all that is wrong with a file, in its order.
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

// maxErrors is the most that is reported at once.
const maxErrors = 100

// orNil sorts the errors; no errors are nil.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if len(e) > maxErrors {
		more := &Error{File: e[0].File, Message: "there are more errors; correct these first"}
		e = append(e[:maxErrors:maxErrors], more)
	}
	return e
}
