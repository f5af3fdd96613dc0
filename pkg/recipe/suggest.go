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

// distance counts the letters to insert, remove, change or swap with the next
// (Damerau's and Levenshtein's "optimal string alignment"). Words are short; a
// long one is not a misspelling.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var rows [3][65]int // the row before last, the last one and this one
	for j := range len(b) + 1 {
		rows[2][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[0], rows[1] = rows[1], rows[2]
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			change := rows[1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			best := min(change, rows[1][j]+1, rows[2][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				best = min(best, rows[0][j-2]+1)
			}
			rows[2][j] = best
		}
	}
	return rows[2][len(b)]
}
