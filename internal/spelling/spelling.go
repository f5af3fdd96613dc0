// Package spelling finds what a misspelled word was meant to be.
package spelling

import "strings"

// Closest returns the candidate that word is most likely a misspelling of, ""
// when none is like it. Upper and lower case are the same.
func Closest(word string, candidates []string) string {
	best, bestDistance := "", min(max(1, len(word)/3)+1, tooFar)
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance && c != word {
			best, bestDistance = c, d
		}
	}
	return best
}

// tooFar is the length of words that are no misspellings of one another.
const tooFar = 64

// distance counts the letters to insert, remove, change or swap with the next
// (Damerau's and Levenshtein's "optimal string alignment"). Words are short; a
// long one is not a misspelling.
func distance(a, b string) int {
	if len(a) > tooFar || len(b) > tooFar {
		return tooFar
	}
	var rows [3][tooFar + 1]int // the row before last, the last one and this one
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
