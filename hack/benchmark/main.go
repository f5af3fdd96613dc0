// Command benchmark does the same work with pdibuild, buildah, podman and
// BuildKit, in turns, and prints how they compare. hack/bench starts it.
//
// Times are medians with the smallest and largest value. Ratios are to
// pdibuild in the same run: other machines have other times. Memory is the
// largest process of the tool (for BuildKit, its daemon); disk is what the
// whole machine wrote meanwhile, flushed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// A bench is one run of all cases.
type bench struct {
	dir      string
	rounds   int
	tools    []tool
	results  []result
	progress *os.File
	registry *exec.Cmd
}

// A result is one line of the table.
type result struct {
	Case    string    `json:"case"`
	Tool    string    `json:"tool"`
	Seconds []float64 `json:"seconds"`
	Median  float64   `json:"median_s"`
	// Ratio is the median in terms of pdibuild's.
	Ratio  float64 `json:"ratio"`
	RSSMB  int64   `json:"rss_mb"`
	DiskMB int64   `json:"disk_mb"`
	Failed string  `json:"failed,omitempty"`
}

func run(ctx context.Context) (err error) {
	full := flag.Bool("full", false, "all cases and more rounds")
	dir := flag.String("dir", "/var/tmp", "where to work; a disk with 20 GB of room")
	only := flag.String("only", "", "the cases to run, such as a,e")
	pdibuild := flag.String("pdibuild", "bin/pdibuild", "the program")
	buildkit := flag.String("buildkit", "", "the directory of buildkitd and buildctl")
	out := flag.String("json", "", "the file that gets the results")
	flag.Parse()
	b := &bench{rounds: 3, progress: os.Stderr}
	if *full {
		b.rounds = 7
	}
	if b.dir, err = os.MkdirTemp(*dir, "pdibench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.findTools(ctx, *pdibuild, *buildkit); err != nil {
		return err
	}
	defer b.stop()
	for _, c := range cases(*full) {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), c.letter) {
			continue
		}
		if err := b.measure(ctx, c); err != nil {
			return fmt.Errorf("case %s: %w", c.letter, err)
		}
	}
	b.print()
	if *out == "" {
		return nil
	}
	data, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(data, '\n'), 0o644)
}

// measure prepares a case for every tool, then lets them take turns, the
// other way round in every second round.
func (b *bench) measure(ctx context.Context, c benchCase) error {
	fmt.Fprintf(b.progress, "(%s) %s\n", c.letter, c.title)
	dir := filepath.Join(b.dir, c.letter)
	if err := c.prepare(ctx, dir); err != nil {
		return err
	}
	var entries []*entry
	for _, t := range append(slices.Clone(b.tools), c.floors...) {
		if c.tools == nil || t.floor || slices.Contains(c.tools, t.name) {
			entries = append(entries, &entry{tool: t, result: result{Case: c.letter, Tool: t.name}})
		}
	}
	for _, e := range entries {
		e.warmUp(ctx, c, dir)
	}
	for round := range b.rounds {
		for _, e := range entries {
			e.round(ctx, c, dir, round)
		}
		slices.Reverse(entries)
	}
	slices.SortStableFunc(entries, func(x, y *entry) int { return x.tool.order - y.tool.order })
	own := entries[0].finish()
	for _, e := range entries {
		e.result.Median = e.finish()
		if own > 0 {
			e.result.Ratio = e.result.Median / own
		}
		b.results = append(b.results, e.result)
	}
	return os.RemoveAll(dir)
}

// An entry is one tool in one case.
type entry struct {
	tool   tool
	result result
}

func (e *entry) warmUp(ctx context.Context, c benchCase, dir string) {
	if e.tool.floor {
		return
	}
	if err := errors.Join(c.vary(dir, -1), e.tool.do(ctx, c, dir).err); err != nil {
		e.result.Failed = err.Error()
	}
}

func (e *entry) round(ctx context.Context, c benchCase, dir string, n int) {
	if e.result.Failed != "" {
		return
	}
	if err := c.vary(dir, n); err != nil {
		e.result.Failed = err.Error()
		return
	}
	before := diskWritten()
	u := e.tool.do(ctx, c, dir)
	if u.err != nil {
		e.result.Failed = u.err.Error()
		return
	}
	flush()
	e.result.Seconds = append(e.result.Seconds, u.took.Seconds())
	e.result.RSSMB = max(e.result.RSSMB, u.rss>>20)
	e.result.DiskMB = max(e.result.DiskMB, (diskWritten()-before)>>20)
}

func (e *entry) finish() float64 {
	s := slices.Sorted(slices.Values(e.result.Seconds))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}

func (b *bench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\ttool\tmedian s\tmin\tmax\tratio\tRSS MB\tdisk MB\t")
	for _, r := range b.results {
		if r.Failed != "" {
			fmt.Fprintf(w, "%s\t%s\tfailed: %.60s\t\t\t\t\t\t\n", r.Case, r.Tool, strings.ReplaceAll(r.Failed, "\n", " "))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.3f\t%.2f\t%d\t%d\t\n", r.Case, r.Tool, r.Median, slices.Min(r.Seconds), slices.Max(r.Seconds), r.Ratio, r.RSSMB, r.DiskMB)
	}
	_ = w.Flush()
}

// usage is what one command took.
type usage struct {
	took time.Duration
	rss  int64
	err  error
}
