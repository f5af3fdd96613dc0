package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The second half of docs/cli.md is the help of every verb. UPDATE_DOCS=1
// writes it.
func TestVerbsAreDocumented(t *testing.T) {
	const path, marker = "../../docs/cli.md", "UPDATE_DOCS=1 go test ./cmd/pdibuild -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, verbs, ok := strings.Cut(string(doc), marker)
	if !ok {
		t.Fatalf("%s has lost the line %q", path, marker)
	}
	var b strings.Builder
	for _, cmd := range newRoot(newApp()).Commands() {
		if cmd.IsAvailableCommand() {
			describeVerb(&b, cmd)
		}
	}
	if b.String() == verbs {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is not what the program says; run UPDATE_DOCS=1 go test ./cmd/pdibuild", path)
	}
	if err := os.WriteFile(path, []byte(written+marker+b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func describeVerb(b *strings.Builder, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n### pdibuild %s\n\n```\n%s\n```\n\n%s\n", cmd.Name(), cmd.UseLine(), fence(text))
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	if flags := cmd.LocalFlags().FlagUsagesWrapped(100); flags != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", flags)
	}
}

// fence puts the indented lines of a help text into a code block.
func fence(text string) string {
	var out []string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != inside {
			out = append(out, "```")
			inside = indented
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if inside {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}
