package recipe

import (
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/spelling"
)

// synonym returns the key that other tools' words stand for.
func synonym(word string) string {
	switch strings.ToLower(word) {
	case "image", "base":
		return "from"
	case "environment":
		return "env"
	case "command":
		return "cmd"
	case "ports":
		return "expose"
	case "working_dir", "cwd", "directory":
		return "workdir"
	case "chown":
		return "owner"
	case "chmod", "permissions":
		return "mode"
	case "dest", "destination", "target":
		return "to"
	case "buildargs", "build_args", "arguments":
		return "args"
	}
	return ""
}

// closest returns the candidate that word is most likely a misspelling of.
func closest(word string, candidates []string) string {
	if s := synonym(word); slices.Contains(candidates, s) {
		return s
	}
	return spelling.Closest(word, candidates)
}
