package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// summaryWidth is the most that Summary returns, in characters.
const summaryWidth = 72

// Summary says in one line what a step does, for plans, progress and the
// image's history. It holds no value of a secret, because a recipe has none.
func Summary(s Step) string {
	text := s.Verb()
	switch s := s.(type) {
	case Run:
		text += " " + s.Command.String()
	case Check:
		text += " " + s.Command.String()
	case Copy:
		text += " " + strings.Join(s.Sources, " ") + " → " + s.To
		if s.From != "" {
			text = "copy " + s.From + ":" + strings.TrimPrefix(text, "copy ")
		}
	case File:
		text += " " + s.Path
	case Env:
		text += " " + strings.Join(slices.Sorted(maps.Keys(s.Env)), " ")
	case Workdir:
		text += " " + s.Workdir
	case User:
		text += " " + s.User.Name
		if s.User.UID != 0 {
			text += fmt.Sprintf(" (uid %d)", s.User.UID)
		}
	case Spack:
		text += " " + s.Spack.Environment
	case Environment:
		text += " " + s.From
	}
	return shorten(text)
}

// String is the command in one line.
func (c Command) String() string {
	if len(c.Argv) > 0 {
		return strings.Join(c.Argv, " ")
	}
	return c.Shell
}

func shorten(text string) string {
	line := strings.Join(strings.Fields(text), " ")
	runes := []rune(line)
	if len(runes) > summaryWidth {
		line = strings.TrimRight(string(runes[:summaryWidth-1]), " ") + "…"
	}
	return line
}
