package hosthelp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
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

// Whatever a host lacks is told with the words of the table: one function makes
// every HostError.
func TestHostErrorsUseTheTable(t *testing.T) {
	made := 0
	for _, dir := range []string{"../../pkg", "../../internal", "../../cmd"} {
		err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			n, err := countLiterals(file, "HostError")
			made += n
			if n > 0 && file != "../../pkg/failure/failure.go" {
				t.Errorf("%s makes a HostError; failure.Host does it with the words of the table", file)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 {
		t.Errorf("HostErrors are made in %d places, want one, failure.Host", made)
	}
}

// countLiterals counts the values of a type that a file makes, whatever package
// the type is from.
func countLiterals(file, name string) (n int, err error) {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return 0, err
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		literal, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		kind := literal.Type
		if selector, ok := kind.(*ast.SelectorExpr); ok {
			kind = selector.Sel
		}
		if ident, ok := kind.(*ast.Ident); ok && ident.Name == name {
			n++
		}
		return true
	})
	return n, nil
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
