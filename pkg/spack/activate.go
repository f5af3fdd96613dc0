package spack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
)

// maxScript is the largest activation script.
const maxScript = 1 << 20

// A ChangeKind is what a Change does.
type ChangeKind int

// The kinds of changes of a variable. Those that prepend and append keep what
// it has, separated by a colon.
const (
	ChangeSet ChangeKind = iota + 1
	ChangePrepend
	ChangeAppend
	ChangeUnset
)

// A Change is a change of an environment variable.
type Change struct {
	Kind ChangeKind
	Name string
	// Value is what is set, prepended or appended.
	Value string
}

// An Activation is what makes an environment's programs usable, in order.
type Activation []Change

// Script makes the changes in a POSIX shell. A shell may read it several times: a
// directory that is in a path already is not added again.
func (a Activation) Script() string { return a.script(Change.assignment) }

// DefaultScript makes the changes in a POSIX shell, but leaves alone what the
// shell's caller has set: a variable is set if it is not set yet, or has the value
// that earlier returns for it. Nothing is unset.
func (a Activation) DefaultScript(earlier func(name string) (value string, ok bool)) string {
	return a.script(func(c Change) string {
		if c.Kind == ChangeUnset {
			return ""
		}
		set := "[ -n \"${" + c.Name + "+x}\" ]"
		if value, ok := earlier(c.Name); ok {
			set += " && [ \"$" + c.Name + "\" != " + shellquote.Quoted(value) + " ]"
		}
		return set + " || " + c.assignment()
	})
}

// script makes additions to paths, and other changes as assign does.
func (a Activation) script(assign func(Change) string) string {
	var b strings.Builder
	b.WriteString("# Makes the programs of the Spack environment usable. It may be read again.\n")
	for _, c := range a {
		value := shellquote.Quoted(c.Value)
		switch c.Kind {
		case ChangePrepend, ChangeAppend:
			joined := value + "${" + c.Name + ":+:${" + c.Name + "}}"
			if c.Kind == ChangeAppend {
				joined = "${" + c.Name + ":+${" + c.Name + "}:}" + value
			}
			fmt.Fprintf(&b, "case \":${%s-}:\" in *:%s:*) ;; *) export %s=%s ;; esac\n", c.Name, value, c.Name, joined)
		default:
			b.WriteString(assign(c))
		}
	}
	return b.String()
}

// assignment sets or unsets the variable.
func (c Change) assignment() string {
	if c.Kind == ChangeUnset {
		return "unset " + c.Name + "\n"
	}
	return "export " + c.Name + "=" + shellquote.Quoted(c.Value) + "\n"
}

// ParseActivation reads what "spack env activate --sh" or "spack load --sh"
// have printed. Name stands for it in messages. Base are the variables that
// Spack was run with, whose values are part of the new ones: they tell what is
// prepended or appended from what is set.
//
// Spack is best run with few variables and no active environment. What its
// script does for a prompt, for aliases, and if an environment was active
// (between if and fi) is left out. Anything that a shell would have to
// evaluate is an error.
func ParseActivation(name string, script []byte, base map[string]string) (Activation, error) {
	if len(script) > maxScript {
		return nil, &Error{File: name, Message: fmt.Sprintf("is larger than %d bytes", maxScript)}
	}
	p := &shellReader{file: name, text: string(script)}
	var changes Activation
	for p.next() {
		c, err := p.statement()
		if err != nil {
			return nil, err
		}
		if c.Kind != 0 {
			changes = append(changes, c.relativeTo(base)...)
		}
	}
	return changes, nil
}

// Apply makes the changes in env.
func (a Activation) Apply(env map[string]string) {
	for _, c := range a {
		old := env[c.Name]
		switch {
		case c.Kind == ChangeUnset:
			delete(env, c.Name)
		case c.Kind == ChangePrepend && old != "":
			env[c.Name] = c.Value + ":" + old
		case c.Kind == ChangeAppend && old != "":
			env[c.Name] = old + ":" + c.Value
		default:
			env[c.Name] = c.Value
		}
	}
}

// relativeTo makes additions of a value that has the old one.
func (c Change) relativeTo(base map[string]string) []Change {
	old := base[c.Name]
	front, back, ok := strings.Cut(":"+c.Value+":", ":"+old+":")
	if c.Kind != ChangeSet || old == "" || !ok || len(front+back) < 2 {
		return []Change{c}
	}
	var changes []Change
	if front != "" {
		changes = append(changes, Change{ChangePrepend, c.Name, front[1:]})
	}
	if back != "" {
		changes = append(changes, Change{ChangeAppend, c.Name, back[:len(back)-1]})
	}
	return changes
}

// A shellReader reads the few statements of a shell that Spack uses.
type shellReader struct {
	file, text string
	pos        int
}

// next goes to the next statement.
func (p *shellReader) next() bool {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n;", p.text[p.pos]) >= 0 {
		p.pos++
	}
	return p.pos < len(p.text)
}

// fail is an error at a place.
func (p *shellReader) fail(pos int, format string, args ...any) error {
	before := p.text[:pos]
	start := strings.LastIndexByte(before, '\n') + 1
	source, _, _ := strings.Cut(p.text[start:], "\n")
	return &Error{
		File: p.file, Line: strings.Count(before, "\n") + 1, Column: pos - start + 1,
		Message: fmt.Sprintf(format, args...), Source: source,
	}
}

// statement reads one statement. A change without a kind is none.
func (p *shellReader) statement() (Change, error) {
	start := p.pos
	switch word := p.command(); word {
	case "export":
		return p.export()
	case "unset":
		name, err := p.name()
		return Change{Kind: ChangeUnset, Name: name}, err
	case "alias":
		p.endOfLine()
		return Change{}, nil
	case "if":
		return Change{}, p.conditional(start)
	default:
		return Change{}, p.fail(start, "%q is not a statement that Spack is known to use", shorten(word))
	}
}

// command reads a statement's first word and the spaces behind it.
func (p *shellReader) command() string {
	start := p.pos
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n;", p.text[p.pos]) < 0 {
		p.pos++
	}
	word := p.text[start:p.pos]
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
	return word
}

// export reads NAME=value. Without a value, the variable stays as it is.
func (p *shellReader) export() (Change, error) {
	name, err := p.name()
	if err != nil {
		return Change{}, err
	}
	if p.pos >= len(p.text) || p.text[p.pos] != '=' {
		return Change{}, p.end()
	}
	p.pos++
	value, err := p.word()
	if err != nil {
		return Change{}, err
	}
	return Change{ChangeSet, name, value}, p.end()
}

// name reads the name of a variable.
func (p *shellReader) name() (string, error) {
	start := p.pos
	for p.pos < len(p.text) && isNameByte(p.text[p.pos], p.pos > start) {
		p.pos++
	}
	if p.pos == start {
		return "", p.fail(start, "the name of a variable was expected")
	}
	return p.text[start:p.pos], nil
}

func isNameByte(c byte, digits bool) bool {
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (digits && c >= '0' && c <= '9')
}

// word reads a value, quoted or not, up to what ends it.
func (p *shellReader) word() (string, error) {
	var b strings.Builder
	for p.pos < len(p.text) {
		var err error
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\r', '\n', ';':
			return b.String(), nil
		case '\'', '"':
			err = p.quoted(&b, c)
		case '\\':
			err = p.escaped(&b)
		case '$', '`', '&', '|', '<', '>', '(', ')', 0:
			err = p.fail(p.pos, "%q would have to be evaluated by a shell", c)
		default:
			b.WriteByte(c)
			p.pos++
		}
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// quoted reads up to the closing quote.
func (p *shellReader) quoted(b *strings.Builder, quote byte) error {
	start := p.pos
	for p.pos++; p.pos < len(p.text); {
		c := p.text[p.pos]
		switch {
		case c == quote:
			p.pos++
			return nil
		case c == 0 || (quote == '"' && (c == '$' || c == '`')):
			return p.fail(p.pos, "%q would have to be evaluated by a shell", c)
		case c == '\\' && quote == '"':
			if err := p.escapedInQuotes(b); err != nil {
				return err
			}
		default:
			b.WriteByte(c)
			p.pos++
		}
	}
	return p.fail(start, "a quote is opened here and not closed")
}

// escaped reads a backslash and what is behind it.
func (p *shellReader) escaped(b *strings.Builder) error {
	if p.pos+1 >= len(p.text) || p.text[p.pos+1] == 0 {
		return p.fail(p.pos, "there is nothing behind the backslash")
	}
	if c := p.text[p.pos+1]; c != '\n' { // a line goes on
		b.WriteByte(c)
	}
	p.pos += 2
	return nil
}

// escapedInQuotes is escaped within "…", where a backslash is one unless what
// is behind it has a meaning.
func (p *shellReader) escapedInQuotes(b *strings.Builder) error {
	if p.pos+1 < len(p.text) && !slices.Contains([]byte("\"\\$`\n"), p.text[p.pos+1]) {
		b.WriteByte('\\')
		p.pos++
		return nil
	}
	return p.escaped(b)
}

// end makes sure that the statement is at its end.
func (p *shellReader) end() error {
	if p.pos < len(p.text) && strings.IndexByte("\r\n;", p.text[p.pos]) < 0 {
		return p.fail(p.pos, "the value ends at this space; a value with spaces has to be quoted")
	}
	return nil
}

func (p *shellReader) endOfLine() {
	if end := strings.IndexByte(p.text[p.pos:], '\n'); end >= 0 {
		p.pos += end
		return
	}
	p.pos = len(p.text)
}

// conditional leaves out a block up to its fi.
func (p *shellReader) conditional(start int) error {
	for depth := 1; depth > 0; {
		p.endOfLine()
		if p.pos >= len(p.text) {
			return p.fail(start, "this if has no fi")
		}
		p.pos++
		line, _, _ := strings.Cut(p.text[p.pos:], "\n")
		word, _, _ := strings.Cut(strings.Trim(line, " \t\r"), " ")
		switch strings.TrimRight(word, ";") {
		case "if":
			depth++
		case "fi":
			depth--
		}
	}
	p.endOfLine()
	return nil
}
