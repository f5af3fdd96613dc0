package recipe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// repeat writes lines until a file is as large as it may be.
func repeat(head, format string) string { return repeatUpTo(1<<20, head, format) }

func repeatUpTo(size int, head, format string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; ; i++ {
		line := strings.ReplaceAll(format, "%", fmt.Sprint(i))
		if b.Len()+len(line) > size {
			return b.String()
		}
		b.WriteString(line)
	}
}

// A largeFile is a recipe and what is said about it, "" for a valid one.
type largeFile struct{ text, want string }

func largeFiles() map[string]largeFile {
	const stage = "version: 1\nsecrets: {token: {}, other: {env: O}}\nargs: {A: b}\nstages:\n- name: a\n  from: scratch\n"
	var manySecrets strings.Builder
	manySecrets.WriteString("version: 1\nsecrets:\n")
	for i := range 1000 {
		fmt.Fprintf(&manySecrets, "  s%d: {env: E%d}\n", i, i)
	}
	manySecrets.WriteString("stages:\n- name: a\n  from: debian\n  steps:\n")
	var chain strings.Builder
	chain.WriteString("version: 1\nstages:\n- {name: s0, from: debian}\n")
	for i := range 998 {
		fmt.Fprintf(&chain, "- {name: s%d, from: s%d}\n", i+1, i)
	}
	return map[string]largeFile{
		"steps":               {repeat(stage+"  steps:\n", "  - run: make something good\n"), ""},
		"labels":              {repeat(stage+"  labels:\n", "    l%: value ${A}\n"), ""},
		"arguments to guess":  {repeat(repeatUpTo(9_000, "version: 1\nargs:\n", "  A%: b\n")+"stages:\n- name: a\n  from: scratch\n  labels:\n", "    l%: ${B%}\n"), "there are more errors"},
		"copies from nowhere": {repeat(chain.String()+"- name: z\n  from: debian\n  steps:\n", "  - {copy: a, from: t%, to: /a}\n"), "there are more errors"},
		"text":                {repeat(stage+"  steps:\n  - file: /a\n    content: |\n", "      a line of it\n"), ""},
		"arguments":           {repeat("version: 1\nstages: [{name: a, from: scratch}]\nargs:\n", "  A%: b\n"), "1000 arguments"},
		"stages in a chain":   {chain.String(), ""},
		"stages":              {repeat("version: 1\nstages:\n", "- {name: s%, from: t%}\n"), "at most 1000 stages"},
		"secrets":             {repeat("version: 1\nstages: [{name: a, from: scratch}]\nsecrets:\n", "  s%: {}\n"), "1000 secrets"},
		"uses of secrets":     {repeat(manySecrets.String(), "  - {run: cat /run/secrets/s%, secrets: [x%]}\n"), "there is no secret"},
		"missing arguments":   {repeat(stage+"  labels:\n", "    l%: ${B%}\n"), "there are more errors"},
		"unknown keys":        {repeat(stage, "  k%: 1\n"), "there are more errors"},
		"wrong types":         {repeat(stage+"  labels:\n", "    l%: [a]\n"), "there are more errors"},
		"syntax":              {repeat(stage, "  k%: 1\n") + " x", "f.yaml:"},
		"comments":            {repeat(stage, "# %\n"), ""},
		"anchors":             {repeat(stage+"  labels:\n", "    l%: &a% x\n"), ""},
		"closing braces":      {repeat("version: {", "a%: {"), "f.yaml:"},
		"references":          {stage + "  labels: {a: \"" + strings.Repeat("${A}", 250_000) + "\"}\n", ""},
		"paths of secrets":    {repeat(stage+"  steps:\n  - file: /a\n    content: \"", "/run/secrets/%") + "\"\n", ""},
		"verbs":               {repeat(stage+"  steps:\n", "  - {env: {A: b}, user: u, workdir: /w, run: x}\n"), ""},
		"keys of a step":      {repeat(stage+"  steps:\n  - {run: x", ", k%: 1") + "}\n", "there are more errors"},
	}
}

// processorTime is what this process has computed so far, whatever else the
// machine has to do.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// The largest file that is read at all is read, or refused, in well under a
// second, whatever it repeats. What is quadratic takes minutes.
func TestLargeFilesAreQuick(t *testing.T) {
	for name, c := range largeFiles() {
		t.Run(name, func(t *testing.T) {
			start := processorTime(t)
			r, err := recipe.Parse("f.yaml", []byte(c.text))
			if spent := processorTime(t) - start; spent > 30*time.Second {
				t.Errorf("%d bytes took %v", len(c.text), spent)
			} else {
				t.Logf("%v", spent)
			}
			if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("got %.500v, want %q", err, c.want)
			}
			if r == nil {
				return
			}
			start = processorTime(t)
			if _, err := r.Substitute(nil); err != nil {
				t.Error(err)
			}
			if spent := processorTime(t) - start; spent > 3*time.Second {
				t.Errorf("substitution took %v", spent)
			}
		})
	}
}
