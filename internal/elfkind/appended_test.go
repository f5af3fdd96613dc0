package elfkind_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/pdidev/pdibuild/internal/elfkind"
)

// Data behind what a program describes of itself is found, a plain program has none.
func TestAppended(t *testing.T) {
	t.Parallel()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{name, "/bin/sh"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if elfkind.Appended(bytes.NewReader(data), int64(len(data))) {
			t.Errorf("%s: something is said to be appended", name)
		}
		data = append(data, "archive"...)
		if !elfkind.Appended(bytes.NewReader(data), int64(len(data))) {
			t.Errorf("%s: the appended data is not found", name)
		}
	}
	if text := []byte("#!/bin/sh"); elfkind.Appended(bytes.NewReader(text), int64(len(text))) {
		t.Error("a script is said to have something appended")
	}
}
