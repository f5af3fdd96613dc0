package recipe_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// FuzzParse checks that no input makes the parser panic or hang, that what it
// accepts has a canonical form with the same meaning, and that what it refuses
// is refused with a place in the file.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"valid/*.yaml", "errors/*.yaml"} {
		for _, name := range files(f, pattern) {
			f.Add(read(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := processorTime(t)
		r, err := recipe.Parse("fuzz.yaml", data)
		if spent := processorTime(t) - start; spent > 5*time.Second {
			t.Fatalf("parsing took %v", spent)
		}
		if err != nil {
			checkErrors(t, data, err)
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("Parse accepts what Validate refuses: %v", err)
		}
		roundTrip(t, r)
		for i := range r.Stages {
			if _, err := r.Order(r.Stages[i].Name); err != nil {
				t.Fatalf("a valid recipe has no order: %v", err)
			}
			for _, s := range r.Stages[i].Steps {
				if text := recipe.Summary(s); strings.ContainsAny(text, "\n\r") {
					t.Fatalf("the summary %q has several lines", text)
				}
			}
		}
		if _, err := r.Substitute(nil); err != nil {
			checkErrors(t, nil, err)
		}
	})
}

// checkErrors checks that err is Errors and, for a file, that each but those
// on the whole file has a place inside of it.
func checkErrors(t *testing.T, data []byte, err error) {
	t.Helper()
	var all recipe.Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("%T is not Errors: %v", err, err)
	}
	last := 1
	for _, r := range string(data) {
		if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
			last++
		}
	}
	for _, e := range all {
		if e.Message == "" || strings.ContainsAny(e.Error(), "\n\r") {
			t.Fatalf("the message is not one line: %q", e.Error())
		}
		if strings.Count(e.Snippet(), "\n") > 1 {
			t.Fatalf("the snippet is not a line and a caret: %q", e.Snippet())
		}
		if data == nil || isWhole(e.Message) {
			continue
		}
		if e.Line < 1 || e.Column < 1 || e.File != "fuzz.yaml" {
			t.Fatalf("%+v has no place in\n%s", e, data)
		}
		if e.Line > last {
			t.Fatalf("line %d is behind the end of\n%s", e.Line, data)
		}
	}
}

// isWhole says whether a message is about the file and no line of it.
func isWhole(message string) bool {
	for _, begin := range []string{"is empty", "is larger than", "is UTF-16", "there are more errors"} {
		if strings.HasPrefix(message, begin) {
			return true
		}
	}
	return false
}
