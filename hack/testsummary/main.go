// Command testsummary reads what `go test -json` wrote, one file per suite,
// shows the output of the tests that failed and the reasons of those that were
// skipped, and ends with the line
//
//	N passed, N failed, N skipped
//
// With -failed it says nothing of those that were skipped. It counts tests that have no subtests, and as failed also packages that did
// not build or ended before their tests did. It exits with 1 when something
// failed or nothing ran.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	failed := flag.Bool("failed", false, "leave out the tests that were skipped")
	flag.Parse()
	ok, err := run(flag.Args(), os.Stdout, !*failed)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testsummary: error: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run summarizes files to w and says whether tests ran and none failed. Tests
// that were skipped are listed where skipped is true.
func run(files []string, w io.Writer, skipped bool) (bool, error) {
	var all []*result
	for _, name := range files {
		results, err := readFile(name)
		if err != nil {
			return false, err
		}
		all = append(all, results...)
	}
	if skipped {
		reportSkipped(w, all)
	}
	return report(w, all), nil
}

// An event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type key struct{ pkg, test string }

// A result is what became of a test or, with an empty test, of a package.
type result struct {
	key
	suite   string
	outcome string
	output  strings.Builder
	parent  bool
}

func (r *result) name() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", r.suite, r.pkg, r.test))
}

func readFile(name string) ([]*result, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	results, err := read(f, strings.TrimSuffix(filepath.Base(name), ".json"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return results, nil
}

// read returns what counts: tests without subtests, and packages that failed
// for a reason that none of their tests shows.
func read(r io.Reader, suite string) ([]*result, error) {
	results := map[key]*result{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			record(results, suite, parseLine(line))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	markParents(results)
	return countable(results), nil
}

// parseLine takes a line that is not JSON, such as the linker's, for output.
func parseLine(line []byte) event {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return event{Action: "output", Output: string(line)}
	}
	if e.Package == "" {
		e.Package, _, _ = strings.Cut(e.ImportPath, " ")
	}
	return e
}

func record(results map[key]*result, suite string, e event) {
	k := key{e.Package, e.Test}
	r := results[k]
	if r == nil {
		r = &result{key: k, suite: suite}
		results[k] = r
	}
	switch e.Action {
	case "output", "build-output":
		r.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		r.outcome = e.Action
	case "build-fail":
		r.outcome = "fail"
	}
}

func markParents(results map[key]*result) {
	for k := range results {
		for i := range len(k.test) {
			if k.test[i] != '/' {
				continue
			}
			if parent := results[key{k.pkg, k.test[:i]}]; parent != nil {
				parent.parent = true
			}
		}
	}
}

func countable(results map[key]*result) []*result {
	var counted []*result
	failed := map[string]bool{}
	for _, r := range results {
		if r.test == "" || r.parent {
			continue
		}
		if r.outcome == "" {
			r.outcome = "fail"
			r.output.WriteString("    (this test did not end)\n")
		}
		failed[r.pkg] = failed[r.pkg] || r.outcome == "fail"
		counted = append(counted, r)
	}
	// A parent may fail with all of its subtests passed, a package with all
	// of its tests: what is inside comes first, and what it is in says no more.
	for _, k := range slices.SortedFunc(maps.Keys(results), func(a, b key) int { return cmp.Compare(b.test, a.test) }) {
		if r := results[k]; r.outcome == "fail" && (r.test == "" || r.parent) && !failed[r.pkg] {
			counted = append(counted, r)
			failed[r.pkg] = r.parent
		}
	}
	slices.SortFunc(counted, func(a, b *result) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test))
	})
	return counted
}

// report writes the summary and says whether tests ran and none failed.
func report(w io.Writer, results []*result) bool {
	count := map[string]int{}
	for _, r := range results {
		count[r.outcome]++
	}
	for _, r := range results {
		if r.outcome == "fail" {
			fmt.Fprintf(w, "\n--- FAILED %s\n%s", r.name(), r.output.String())
		}
	}
	if count["pass"]+count["fail"] == 0 {
		fmt.Fprintln(w, "\nNO TEST RAN, which counts as a failure")
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
	return count["fail"] == 0 && count["pass"] > 0
}

// reportSkipped groups tests that were skipped for one reason.
func reportSkipped(w io.Writer, results []*result) {
	byReason := map[string][]string{}
	for _, r := range results {
		if r.outcome == "skip" {
			byReason[reason(r.output.String())] = append(byReason[reason(r.output.String())], r.name())
		}
	}
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		fmt.Fprintf(w, "\n--- SKIPPED because: %s\n    %s\n", why, strings.Join(byReason[why], "\n    "))
	}
}

// reason is the last line that a skipped test said, without its place.
func reason(output string) string {
	why := "no reason given"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, rest, ok := strings.Cut(line, ".go:"); ok {
			_, line, _ = strings.Cut(rest, ": ")
		}
		why = line
	}
	return why
}
