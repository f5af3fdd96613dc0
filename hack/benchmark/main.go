// Command benchmark does the same work with pdibuild, buildah, podman and
// BuildKit, in turns, and prints how they compare. hack/bench starts it.
//
// Times are medians with the smallest and largest value. Ratios are to
// pdibuild in the same run: other machines have other times. Memory is the
// largest process of the tool (for BuildKit, its daemon); disk is what its
// processes wrote into files.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// A bench is one run of all cases.
type bench struct {
	dir string
	// runroots is where buildah and podman note what is mounted.
	runroots string
	rounds   int
	tools    []tool
	results  []result
	progress *os.File
	daemons  []*exec.Cmd
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
	// PushedMB is what a push stored at the registry, on average, and
	// ChangedMB what had changed before it.
	PushedMB  float64 `json:"pushed_mb,omitempty"`
	ChangedMB float64 `json:"changed_mb,omitempty"`
	Failed    string  `json:"failed,omitempty"`
}

func run(ctx context.Context) (err error) {
	full := flag.Bool("full", false, "all cases and more rounds")
	dir := flag.String("dir", "/var/tmp", "where to work; a disk with 20 GB of room")
	only := flag.String("case", "", "the cases to run, such as a,e; also those of the full run")
	tools := flag.String("tool", "", "the tools to run beside pdibuild, such as buildah,BuildKit; default: all")
	pdibuild := flag.String("pdibuild", "bin/pdibuild", "the program")
	buildkit := flag.String("buildkit", "", "the directory of buildkitd and buildctl")
	out := flag.String("json", "", "the file that gets the results")
	rounds := flag.Int("rounds", 0, "how often each tool runs; default: 3, of a full run up to 11")
	flag.Parse()
	b := &bench{rounds: *rounds, progress: os.Stderr}
	if *rounds == 0 && *full {
		b.rounds = 11
	} else if *rounds == 0 {
		b.rounds = 3
	}
	if err := b.removeAbandoned(*dir); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, fmt.Sprintf("%s%d-", dirPrefix, os.Getpid())); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.remove()) }()
	if err := b.findTools(ctx, *pdibuild, *buildkit); err != nil {
		return err
	}
	defer b.stop()
	if *tools != "" {
		b.tools = slices.DeleteFunc(b.tools, func(t tool) bool {
			return !t.recipe && !slices.Contains(strings.Split(*tools, ","), t.name)
		})
	}
	for _, c := range cases(*full || *only != "") {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), c.letter) {
			continue
		}
		if err := b.measure(ctx, c); err != nil {
			return fmt.Errorf("case %s: %w", c.letter, err)
		}
		if err := b.write(*out); err != nil { // what a broken-off run has, it has
			return err
		}
	}
	b.print()
	return nil
}

// write writes the results as JSON; to the file "" nothing.
func (b *bench) write(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
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
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e.warmUp(ctx, c, dir)
		fmt.Fprintf(b.progress, "    %s is ready\n", e.result.Tool)
	}
	for round := range min(b.rounds, c.rounds) {
		for _, e := range entries {
			e.round(ctx, c, dir, round)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		slices.Reverse(entries)
		fmt.Fprintf(b.progress, "    round %d\n", round+1)
	}
	slices.SortStableFunc(entries, func(x, y *entry) int { return x.tool.order - y.tool.order })
	own := entries[0].finish()
	for _, e := range entries {
		e.result.Median = e.finish()
		e.result.PushedMB /= float64(max(len(e.result.Seconds), 1))
		e.result.ChangedMB /= float64(max(len(e.result.Seconds), 1))
		if own > 0 {
			e.result.Ratio = e.result.Median / own
		}
		b.results = append(b.results, e.result)
	}
	for _, t := range b.tools {
		if err := b.empty(ctx, t); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// empty removes all images of a tool: the disk has not room for all cases.
func (b *bench) empty(ctx context.Context, t tool) error {
	if err := b.unmount(t.store); err != nil {
		return err
	}
	return t.command(ctx, b.dir, t.fill(t.emptyCommand, b.dir)).err
}

// remove removes all that the benchmark made.
func (b *bench) remove() error {
	err := errors.Join(b.unmount(b.dir), os.RemoveAll(b.dir))
	if b.runroots != "" {
		err = errors.Join(err, b.unmount(b.runroots), os.RemoveAll(b.runroots))
	}
	return err
}

// dirPrefix begins the names of benchmarks' directories, then comes a process.
const dirPrefix = "pdibench"

// removeAbandoned removes what a benchmark has left that was killed, with what
// the tools had mounted there.
func (b *bench) removeAbandoned(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, dirPrefix+"*-*"))
	if err != nil {
		return err
	}
	for _, f := range found {
		process, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(f), dirPrefix), "-")
		if _, err := os.Stat("/proc/" + process); err == nil {
			continue
		}
		if err := errors.Join(b.unmount(f), os.RemoveAll(f)); err != nil {
			return err
		}
	}
	return nil
}

// unmount unmounts what a tool leaves mounted in a directory, as buildah does.
func (b *bench) unmount(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 1 && dir != "" && strings.HasPrefix(f[1], dir+"/") {
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", f[1], err)
			}
		}
	}
	return nil
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
		return
	}
	if c.ready != nil {
		e.failed(c.ready(ctx, e.tool, dir))
	}
	if c.stage {
		e.failed(e.tool.keep(ctx, dir))
	}
}

func (e *entry) failed(err error) {
	if err != nil && e.result.Failed == "" {
		e.result.Failed = err.Error()
	}
}

func (e *entry) round(ctx context.Context, c benchCase, dir string, n int) {
	if e.result.Failed != "" {
		return
	}
	if err := errors.Join(c.vary(dir, n), flush(dir)); err != nil {
		e.result.Failed = err.Error()
		return
	}
	u := e.tool.do(ctx, c, dir)
	e.failed(u.err)
	if u.err != nil {
		return
	}
	e.result.Seconds = append(e.result.Seconds, u.took.Seconds())
	e.result.RSSMB = max(e.result.RSSMB, u.rss>>20)
	e.result.DiskMB = max(e.result.DiskMB, u.written>>20)
	e.result.PushedMB += float64(u.pushed) / (1 << 20)
	if c.changed != nil {
		e.result.ChangedMB += float64(c.changed(n)) / (1 << 20)
	}
	if c.stage {
		e.failed(e.tool.tidy(ctx, dir))
	}
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
	fmt.Fprintln(w, "case\ttool\tmedian s\tmin\tmax\tratio\tRSS MB\tdisk MB\tpushed MB\t")
	for _, r := range b.results {
		if r.Failed != "" {
			fmt.Fprintf(w, "%s\t%s\tfailed\t\t\t\t\t\t\t\n", r.Case, r.Tool)
			continue
		}
		pushed := ""
		if r.PushedMB > 0 {
			pushed = fmt.Sprintf("%.1f", r.PushedMB)
		}
		if r.ChangedMB > 0 {
			pushed += fmt.Sprintf(" of %.1f: %.2f", r.ChangedMB, r.PushedMB/r.ChangedMB)
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.3f\t%.2f\t%d\t%d\t%s\t\n", r.Case, r.Tool, r.Median, slices.Min(r.Seconds), slices.Max(r.Seconds), r.Ratio, r.RSSMB, r.DiskMB, pushed)
	}
	_ = w.Flush()
	for _, r := range b.results {
		if r.Failed != "" {
			fmt.Printf("(%s) %s failed: %s\n", r.Case, r.Tool, strings.ReplaceAll(r.Failed, "\n", " "))
		}
	}
}
