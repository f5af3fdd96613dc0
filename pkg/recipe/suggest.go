package recipe

import (
	"slices"
	"strings"
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
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance && c != word {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's. Words are short; a long one is not a misspelling.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		previous := row[0]
		row[0] = i + 1
		for j := range b {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
