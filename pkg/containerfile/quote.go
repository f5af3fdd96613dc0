package containerfile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
)

// quoteAll makes a command of words.
func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellquote.Word(w)
	}
	return strings.Join(quoted, " ")
}

// jsonList is the form of a command without a shell.
func jsonList(words []string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(words) // texts can always be encoded
	return strings.TrimSpace(b.String())
}

// printLines is a shell command that prints lines. Every line of it but the
// last ends in a backslash, and none looks like a comment or like nothing, so
// that it may stand in an instruction of a Containerfile.
func printLines(content string) string {
	format := `'%s\n'`
	if !strings.HasSuffix(content, "\n") {
		format = `'%s'`
	}
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	if format == `'%s'` && len(lines) > 1 { // the last line has no end
		return "{ " + printLines(strings.Join(lines[:len(lines)-1], "\n")+"\n") + "; \\\n    printf %s " + shellquote.Quoted(lines[len(lines)-1]) + "; }"
	}
	for i, line := range lines {
		lines[i] = shellquote.Quoted(line)
	}
	if len(lines) == 1 {
		return "printf " + format + " " + lines[0]
	}
	return "printf " + format + " \\\n    " + strings.Join(lines, " \\\n    ")
}

// literal escapes what the instructions of a Containerfile would replace.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, `$`, `\$`).Replace(s)
}

// quotedLiteral is a value between quotation marks.
func quotedLiteral(s string) string {
	return `"` + strings.ReplaceAll(literal(s), `"`, `\"`) + `"`
}

// reference is a reference in the value of a variable, or $$ for a dollar sign.
var reference = regexp.MustCompile(`\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}`)

// envValue is the value of an ENV instruction, with its references.
func envValue(s string) string {
	var b strings.Builder
	rest := s
	for at := reference.FindStringIndex(rest); at != nil; at = reference.FindStringIndex(rest) {
		b.WriteString(strings.ReplaceAll(literal(rest[:at[0]]), `"`, `\"`))
		if ref := rest[at[0]:at[1]]; ref == "$$" {
			b.WriteString(`\$`)
		} else {
			b.WriteString(ref)
		}
		rest = rest[at[1]:]
	}
	b.WriteString(strings.ReplaceAll(literal(rest), `"`, `\"`))
	return `"` + b.String() + `"`
}

// shellValue is the same as a word of a shell.
func shellValue(s string) string {
	var b strings.Builder
	double := strings.NewReplacer(`\`, `\\`, `$`, `\$`, `"`, `\"`, "`", "\\`")
	rest := s
	for at := reference.FindStringIndex(rest); at != nil; at = reference.FindStringIndex(rest) {
		b.WriteString(double.Replace(rest[:at[0]]))
		if ref := rest[at[0]:at[1]]; ref == "$$" {
			b.WriteString(`\$`)
		} else {
			b.WriteString(ref)
		}
		rest = rest[at[1]:]
	}
	b.WriteString(double.Replace(rest))
	return `"` + b.String() + `"`
}
