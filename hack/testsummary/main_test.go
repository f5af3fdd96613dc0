package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name, events string
		ok           bool
		last         string
		shows        []string
	}{
		{
			name: "leaves are counted, not their parents",
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A/one"}
{"Action":"pass","Package":"p","Test":"A/two"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`,
			ok: true, last: "2 passed, 0 failed, 0 skipped",
		},
		{
			name: "a failure shows its output",
			events: `{"Action":"output","Package":"p","Test":"A","Output":"it broke\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"B"}
{"Action":"fail","Package":"p"}`,
			last: "1 passed, 1 failed, 0 skipped", shows: []string{"it broke", "suite: p A"},
		},
		{
			name: "a parent that fails by itself is a failure",
			events: `{"Action":"pass","Package":"p","Test":"A/one"}
{"Action":"output","Package":"p","Test":"A","Output":"afterwards\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			last: "1 passed, 1 failed, 0 skipped", shows: []string{"afterwards"},
		},
		{
			name: "and so is one inside another, once",
			events: `{"Action":"pass","Package":"p","Test":"A/one/x"}
{"Action":"output","Package":"p","Test":"A/one","Output":"afterwards\n"}
{"Action":"fail","Package":"p","Test":"A/one"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			last: "1 passed, 1 failed, 0 skipped", shows: []string{"afterwards", "suite: p A/one"},
		},
		{
			name: "a package that does not build is a failure",
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"fail","Package":"p"}`,
			last: "0 passed, 1 failed, 0 skipped", shows: []string{"undefined: x"},
		},
		{
			name:   "a test that was cut off is a failure",
			events: `{"Action":"run","Package":"p","Test":"A"}`,
			last:   "0 passed, 1 failed, 0 skipped", shows: []string{"did not end"},
		},
		{
			name: "reasons of skipped tests are shown",
			events: `{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:7: no registry: here\n"}
{"Action":"output","Package":"p","Test":"A","Output":"--- SKIP: A (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"B"}`,
			ok: true, last: "1 passed, 0 failed, 1 skipped", shows: []string{"because: no registry: here\n    suite: p A"},
		},
		{
			name:   "skipped tests alone are not enough",
			events: `{"Action":"skip","Package":"p","Test":"A"}`,
			last:   "0 passed, 0 failed, 1 skipped", shows: []string{"NO TEST RAN"},
		},
		{name: "nothing is not enough", last: "0 passed, 0 failed, 0 skipped", shows: []string{"NO TEST RAN"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			results, err := read(strings.NewReader(c.events), "suite")
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			reportSkipped(&out, results)
			ok := report(&out, results)
			text := strings.TrimRight(out.String(), "\n")
			if ok != c.ok || text[strings.LastIndexByte(text, '\n')+1:] != c.last {
				t.Errorf("ok %v, want %v, and last line %q of:\n%s", ok, c.ok, c.last, text)
			}
			for _, want := range c.shows {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in:\n%s", want, text)
				}
			}
		})
	}
}
