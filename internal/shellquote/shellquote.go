// Package shellquote writes texts as words of a POSIX shell.
package shellquote

import "strings"

// Word makes one word of any text, without quotes where it needs none.
func Word(s string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+=:,@%", r)
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return Quoted(s)
}

// Quoted makes one word of any text, always in quotes.
func Quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
