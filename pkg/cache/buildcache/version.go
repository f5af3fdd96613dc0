package buildcache

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Versions are compared as Spack does it (its docs, "Version comparison"): a
// version is a list of numbers and words, whatever is between them. Numbers
// come after words, and the names of branches after all; what is shorter comes
// before what goes on, but an alpha, beta or rc is before the version itself.

// branches are the words that come after all numbers, the last one first.
var branches = []string{"develop", "main", "master", "head", "trunk", "stable"}

// early are the words for what comes before the version itself.
var early = []string{"alpha", "beta", "rc"}

var versionPart = regexp.MustCompile(`[0-9]+|[A-Za-z]+`)

// versionParts takes a version apart. What a git.REF=VERSION is compared as is
// its VERSION.
func versionParts(version string) []string {
	if _, as, ok := strings.Cut(version, "="); ok {
		version = as
	}
	return versionPart.FindAllString(version, -1)
}

// compareVersions is negative when a is before b.
func compareVersions(a, b string) int {
	as, bs := versionParts(a), versionParts(b)
	for i := range max(len(as), len(bs)) {
		if c := compareParts(partAt(as, i), partAt(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func partAt(parts []string, i int) string {
	if i < len(parts) {
		return parts[i]
	}
	return ""
}

// compareParts compares numbers and words, "" for the end of a version.
func compareParts(a, b string) int {
	if c := cmp.Compare(rankOfPart(a), rankOfPart(b)); c != 0 {
		return c
	}
	if a == "" || !isNumber(a) {
		return cmp.Compare(a, b)
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func isNumber(part string) bool { return part[0] >= '0' && part[0] <= '9' }

func rankOfPart(part string) int {
	switch branch := slices.Index(branches, part); {
	case branch >= 0:
		return 10 - branch
	case part == "":
		return 1
	case isNumber(part):
		return 3
	case slices.Contains(early, part):
		return 0
	}
	return 2
}

// isVersionOf says whether have is want or goes on behind it: 1.14.3 is a 1.14,
// and 1.14-rc1 is not.
func isVersionOf(have, want string) bool {
	h, w := versionParts(have), versionParts(want)
	if len(h) > len(w) && slices.Contains(early, h[len(w)]) {
		return false
	}
	return len(h) >= len(w) && slices.EqualFunc(h[:len(w)], w, func(a, b string) bool { return compareParts(a, b) == 0 })
}

// inVersions says whether a version is in a list of versions and ranges, such
// as "1.10:1.12,1.14,=2.0". Both ends of a range belong to it, with all that
// goes on behind the upper one.
func inVersions(have, list string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(item string) bool {
		if exact, ok := strings.CutPrefix(item, "="); ok {
			return compareVersions(have, exact) == 0
		}
		low, high, isRange := strings.Cut(item, ":")
		if !isRange {
			return isVersionOf(have, item)
		}
		return (low == "" || compareVersions(have, low) >= 0) &&
			(high == "" || compareVersions(have, high) <= 0 || isVersionOf(have, high))
	})
}
