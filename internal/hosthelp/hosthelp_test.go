package hosthelp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every topic says what it means and what to do, in words that fit into the
// sentences around them.
func TestEveryTopicHelps(t *testing.T) {
	declared := declaredTopics(t)
	if len(declared) != len(Topics()) {
		t.Errorf("%d topics are declared, the table has %d", len(declared), len(Topics()))
	}
	for _, topic := range declared {
		h := For(topic)
		if h.Means == "" || h.User == "" {
			t.Errorf("%s: it does not say what it means, or what a user can do: %+v", topic, h)
		}
		for _, text := range []string{h.Means, h.Admin, h.User} {
			if strings.HasSuffix(text, ".") || text != strings.TrimSpace(text) {
				t.Errorf("%s: %q does not fit into a sentence", topic, text)
			}
		}
	}
}

func declaredTopics(t *testing.T) []Topic {
	t.Helper()
	source, err := os.ReadFile("hosthelp.go")
	if err != nil {
		t.Fatal(err)
	}
	var topics []Topic
	for _, m := range regexp.MustCompile(`(?m)^\t\w+\s+Topic = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		topics = append(topics, Topic(m[1]))
	}
	if len(topics) < 20 {
		t.Fatalf("found only %d topics", len(topics))
	}
	return topics
}

// Errors about the host, which are exit code 5, get their words from the table:
// nobody makes a HostError by hand.
func TestHostErrorsUseTheTable(t *testing.T) {
	files, err := filepath.Glob("../../pkg/builder/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of pkg/builder: %v", err)
	}
	made := 0
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if name, ok := literal.Type.(*ast.Ident); ok && name.Name == "HostError" {
				made++
				if filepath.Base(file) != "errors.go" {
					t.Errorf("%s makes a HostError; hostError does it with the words of the table", file)
				}
			}
			return true
		})
	}
	if made != 1 {
		t.Errorf("HostErrors are made in %d places, want one, hostError", made)
	}
}

func TestHint(t *testing.T) {
	tests := []struct {
		help Help
		want string
	}{
		{Help{User: "wait", Admin: "mend it"}, "wait; an administrator can mend it"},
		{Help{User: "wait"}, "wait"},
	}
	for _, test := range tests {
		if got := test.help.Hint(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
