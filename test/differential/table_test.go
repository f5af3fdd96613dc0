//go:build !integration

package differential

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// The differences that the test accepts are those that the documentation has.
func TestDocumentationHasTheTable(t *testing.T) {
	inCode := firstGroups(t, "intended_test.go", `(?s)var intendedDifferences = .*?\n}\n`, `(?m)^\t\{"(.*?)", func`)
	inDocs := firstGroups(t, "../../docs/containerfile.md", `(?s)\| pdibuild \| Buildah, podman \|\n.*?\n\n`, `(?m)^\| ([^|]*) \| [^|]*\|$`)
	if inDocs = inDocs[1:]; !slices.Equal(inCode, inDocs) { // without the head
		t.Errorf("intended_test.go has\n%q\nand docs/containerfile.md\n%q", inCode, inDocs)
	}
}

// firstGroups finds a pattern in the part of a file that another one matches.
func firstGroups(t *testing.T, file, part, pattern string) (found []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(regexp.MustCompile(part).Find(data), -1) {
		found = append(found, string(match[1]))
	}
	if len(found) < 2 {
		t.Fatalf("%s has no table", file)
	}
	return found
}
