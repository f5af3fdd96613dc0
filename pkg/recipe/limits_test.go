package recipe_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Hostile files are refused, with a reason, in no time.
func TestHostileFiles(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("version: 1\nargs: {a: &a0 [x, x]}\n")
	for i := range 40 {
		fmt.Fprintf(&laughs, "k%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i+1, i, i, i, i)
	}
	steps := "version: 1\nstages:\n- name: a\n  from: scratch\n  steps:\n"
	for name, c := range map[string]struct{ text, want string }{
		"billion laughs":   {laughs.String(), "too many values; aliases may repeat one another"},
		"10 MB":            {"version: 1\n" + strings.Repeat("# long\n", 10<<20/7), "is larger than 1048576 bytes"},
		"deep flow lists":  {"version: " + strings.Repeat("[", 100_000), "f.yaml:1:"},
		"closed deep flow": {"version: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "nested too deeply"},
		"deep block lists": {"version:\n  " + strings.Repeat("- ", 5000) + "x", "nested too deeply"},
		"many errors":      {steps + strings.Repeat("  - unknown: x\n", 20_000), "there are more errors; correct these first"},
		"a long line":      {"version: " + strings.Repeat("x", 1<<20-20), "must be a whole number"},
		"quadratic keys":   {"version: {" + strings.Repeat("a", 200_000) + ": {" + strings.Repeat("? ", 5000), "f.yaml:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			start := processorTime(t)
			_, err := recipe.Parse("f.yaml", []byte(c.text))
			if spent := processorTime(t) - start; spent > 20*time.Second {
				t.Errorf("it took %v", spent)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want %q", err, c.want)
			}
			if n := len(err.Error()); n > 2<<20 {
				t.Errorf("the message has %d bytes", n)
			}
		})
	}
}

func TestLargeButHonest(t *testing.T) {
	text := "version: 1\nstages:\n- name: a\n  from: scratch\n  steps:\n" + strings.Repeat("  - run: make something\n", 5000)
	if r := mustParse(t, text); len(r.Stages[0].Steps) != 5000 {
		t.Errorf("%d steps", len(r.Stages[0].Steps))
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := recipe.Load(dir)
	if err == nil || !strings.Contains(err.Error(), "no pdibuild.yaml in "+dir) {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := recipe.Load(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("no directory: %v", err)
	}
	if _, err := recipe.LoadFile(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory as a file: %v", err)
	}
	if _, err := recipe.LoadFile(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	text := []byte("version: 1\nstages:\n- {name: a, from: scratch}\n")
	for _, name := range []string{"pdibuild.yml", recipe.FileName} {
		data := bytes.ReplaceAll(text, []byte("name: a"), []byte("name: "+strings.TrimPrefix(filepath.Ext(name), ".")))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := recipe.Load(dir)
		if err != nil || "."+r.Stages[0].Name != filepath.Ext(name) {
			t.Errorf("with %s: %+v, %v", name, r, err)
		}
	}
}
