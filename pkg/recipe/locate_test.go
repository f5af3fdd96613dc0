package recipe

import (
	"fmt"
	"testing"
)

func TestLocate(t *testing.T) {
	const text = `version: 1
stages:
  - name: one
    from: scratch
    steps:
      - {file: /x, content: y}
  - name: two
    from: one
    steps:
      - file: /x
        content: y
      -   copy: a
          to: /a
`
	for _, test := range []struct {
		stage string
		step  int
		want  string
	}{
		{"one", 1, "f:4:11: "},
		{"one", 2, "f:6:9: "},
		{"two", 1, "f:8:11: "},
		{"two", 3, "f:12:11: "},
		{"two", 4, ""},
		{"three", 1, ""},
	} {
		got := ""
		if e := Locate("f", []byte(text), test.stage, test.step); e != nil {
			got = fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
			if e.Snippet() == "" {
				t.Errorf("%s %d: there is no snippet", test.stage, test.step)
			}
		}
		if got != test.want {
			t.Errorf("%s %d: %q, want %q", test.stage, test.step, got, test.want)
		}
	}
	if e := Locate("f", []byte("\t"), "one", 1); e != nil {
		t.Errorf("a text that is no recipe has a step at %v", e)
	}
}
