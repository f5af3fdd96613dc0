package recipe_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

var update = flag.Bool("update", false, "write the golden files")

// TestErrors compares what is said about each wrong recipe, every line of it,
// with what a person has read and found helpful.
func TestErrors(t *testing.T) {
	for _, name := range files(t, "errors/*.yaml") {
		base := filepath.Base(name)
		t.Run(strings.TrimSuffix(base, ".yaml"), func(t *testing.T) {
			r, err := recipe.Parse(base, read(t, name))
			if err == nil || r != nil {
				t.Fatalf("the recipe is accepted: %+v", r)
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".golden", report(t, err))
		})
	}
}

// report is err as a person sees it: one line and the source for each.
func report(t *testing.T, err error) string {
	t.Helper()
	var all recipe.Errors
	if !errors.As(err, &all) {
		t.Fatalf("%T is not Errors", err)
	}
	var out strings.Builder
	for _, e := range all {
		out.WriteString(e.Error() + "\n")
		if s := e.Snippet(); s != "" {
			out.WriteString(s + "\n")
		}
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(read(t, name)); got != want {
		t.Errorf("got\n%s\nwant\n%s\n(go test -update writes it)", got, want)
	}
}
