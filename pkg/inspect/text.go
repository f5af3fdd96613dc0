package inspect

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// shown makes a text safe for a terminal: one with anything that is not to be
// printed is quoted.
func shown(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// shownPath is shown for the path of a file in an image.
func shownPath(path string) string { return shown(spack.ShortenPadding(path)) }

// shownSteps are as long as a line of a terminal has room for.
const shownSteps = 90

func shortened(s string, length int) string {
	s = shown(strings.Join(strings.Fields(s), " "))
	if runes := []rune(s); len(runes) > length {
		return string(runes[:length-1]) + "…"
	}
	return s
}

// SizeText is a number of bytes for humans, with units of 1000.
func SizeText(n int64) string {
	if n < 0 {
		return "?"
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if value /= 1000; value < 999.5 {
			break
		}
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// A page is a text being written; the first error stays.
type page struct {
	*tabwriter.Writer
	out *bufio.Writer
}

func newPage(w io.Writer) *page {
	out := bufio.NewWriter(w)
	return &page{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), out}
}

func (p *page) end() error {
	if err := p.Flush(); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// heading ends the columns of what is before it.
func (p *page) heading(text string) {
	_ = p.Flush() // end reports it
	fmt.Fprintf(p.out, "\n%s\n", text)
}

// WriteText writes a report for a terminal or a log.
func WriteText(w io.Writer, r *Report) error {
	p := newPage(w)
	p.line("%s", shown(r.Name))
	p.line("  id\t%s", r.ID)
	p.line("  digest\t%s", r.Digest)
	platform := r.Platform
	if !r.Created.IsZero() {
		platform += ", created " + r.Created.Format("2006-01-02")
	}
	p.line("  platform\t%s", platform)
	if r.Release != "" {
		p.line("  base\t%s", shown(r.Release))
	}
	size := fmt.Sprintf("%s in %s, %s", SizeText(r.Size), count(len(r.Layers), "layer"), count(r.Files, "file"))
	if r.Compressed >= 0 && r.Compressed < r.Size*95/100 {
		size += ", " + SizeText(r.Compressed) + " compressed"
	}
	p.line("  size\t%s", size)
	p.line("  waste\t%s", wasteText(r.Waste))
	p.layers(r)
	p.waste(r)
	p.heading("LARGEST DIRECTORIES")
	for _, d := range r.Directories {
		p.line("  %s\t%s", SizeText(d.Size), shownPath(d.Path))
	}
	p.packages(r)
	p.configuration(r.Config)
	return p.end()
}

// count is "1 layer" or "2 layers".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func wasteText(w Wasted) string {
	text := fmt.Sprintf("%s (%.1f %%) nobody sees: %s replaced, %s removed", SizeText(w.Hidden), w.Percent, SizeText(w.Replaced), SizeText(w.Removed))
	if w.Duplicate > 0 {
		text += fmt.Sprintf("; %s in duplicates", SizeText(w.Duplicate))
	}
	return text
}

func (p *page) layers(r *Report) {
	p.heading("LAYERS")
	p.line("  #\tSIZE\tWASTED\tADDED\tCHANGED\tREMOVED\tSTEP")
	for _, l := range r.Layers {
		waste := ""
		if l.Wasted > 0 {
			waste = SizeText(l.Wasted)
		}
		p.line("  %d\t%s\t%s\t%d\t%d\t%d\t%s", l.Number, SizeText(l.Size), waste, l.Added, l.Changed, l.Removed, shortened(l.Step, shownSteps))
	}
	for _, l := range r.Layers {
		if len(l.Changes) == 0 {
			continue
		}
		p.heading(fmt.Sprintf("LAYER %d (%d of %d changes)", l.Number, len(l.Changes), max(l.Added+l.Changed+l.Removed, len(l.Changes))))
		for _, c := range l.Changes {
			p.line("  %s\t%s\t%s", sign(c.Change), SizeText(c.Size), shownPath(c.Path))
		}
	}
}

// sign is how a change is marked.
func sign(k ChangeKind) string {
	switch k {
	case Added:
		return "+"
	case Gone:
		return "-"
	}
	return "~"
}

func (p *page) waste(r *Report) {
	if len(r.Waste.Files) == 0 {
		return
	}
	p.heading("LARGEST WASTE")
	for _, w := range r.Waste.Files {
		p.line("  %s\t%s\t%s", SizeText(w.Size), shownPath(w.Path), wasteReason(w))
	}
}

func wasteReason(w Waste) string {
	switch {
	case w.Kind == Duplicate:
		return fmt.Sprintf("layer %d, the same as %s", w.Layer, shownPath(w.Of))
	case w.Kind == Removed:
		return fmt.Sprintf("layer %d, removed in layer %d", w.Layer, w.By)
	case w.Same:
		return fmt.Sprintf("layer %d, the same content again in layer %d (chmod, chown, touch?)", w.Layer, w.By)
	}
	return fmt.Sprintf("layer %d, replaced in layer %d", w.Layer, w.By)
}

func (p *page) packages(r *Report) {
	if len(r.Spack) > 0 {
		p.heading(fmt.Sprintf("SPACK PACKAGES (%d; * asked for by the environment)", len(r.Spack)))
		for _, s := range r.Spack {
			mark, place := " ", fmt.Sprintf("layer %d", s.Layer)
			if s.Root {
				mark = "*"
			}
			if s.External {
				place = "external, " + s.Prefix
			}
			p.line("  %s %s\t%s\t%s\t%s\t%s", mark, shown(s.Name+"@"+s.Version), s.Hash[:min(7, len(s.Hash))], SizeText(s.Size), place, shown(s.License))
		}
	}
	if len(r.Debian) > 0 {
		list := slices.Clone(r.Debian)
		slices.SortStableFunc(list, func(a, b *DebianPackage) int { return int(b.Size>>10 - a.Size>>10) })
		n := min(len(list), len(r.Directories), 10)
		p.heading(fmt.Sprintf("DEBIAN PACKAGES (the largest %d of %d; the bill of materials has all)", n, len(list)))
		for _, d := range list[:n] {
			p.line("  %s\t%s\t%s", SizeText(d.Size), shown(d.Name), shown(d.Version))
		}
	}
}

func (p *page) configuration(c Configuration) {
	p.heading("CONFIGURATION")
	for _, kv := range [][2]string{
		{"user", c.User},
		{"workdir", c.Workdir},
		{"entrypoint", words(c.Entrypoint)},
		{"cmd", words(c.Cmd)},
		{"ports", words(c.Ports)},
		{"volumes", words(c.Volumes)},
		{"stop signal", c.StopSignal},
	} {
		if kv[1] != "" {
			p.line("  %s\t%s", kv[0], shown(kv[1]))
		}
	}
	for _, e := range c.Env {
		p.line("  env\t%s", shown(e))
	}
	p.named("label", c.Labels)
	p.named("annotation", c.Annotations)
}

func (p *page) named(what string, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p.line("  %s\t%s", what, shown(name+"="+values[name]))
	}
}

// WriteWhy writes the answers of Why.
func WriteWhy(w io.Writer, answers []Why) error {
	p := newPage(w)
	for _, a := range answers {
		how := "is there because others need it"
		if a.Root && a.Kind == "spack" {
			how = "is asked for by the environment"
		} else if a.Root {
			how = "is needed by no other package: it was installed by name, or is essential"
		}
		p.line("%s (%s) %s", shown(a.Package), a.Kind, how)
		if len(a.Dependents) > 0 {
			p.line("  needed by %s", shown(strings.Join(a.Dependents, ", ")))
		}
		for _, c := range a.Chains {
			p.line("  %s", shown(strings.Join(c, " → ")))
		}
	}
	return p.end()
}

// WriteDiff writes a comparison.
func WriteDiff(w io.Writer, d *Diff) error {
	p := newPage(w)
	for _, s := range []Side{d.A, d.B} {
		p.line("%s\t%s\t%s\t%s\t%s", shown(s.Name), SizeText(s.Size), count(s.Layers, "layer"), count(s.Files, "file"), s.ID)
	}
	growth := d.B.Size - d.A.Size
	sign := "+"
	if growth < 0 {
		growth, sign = -growth, "-"
	}
	p.line("difference\t%s%s", sign, SizeText(growth))
	p.line("shared\t%s in the lowest %s", SizeText(d.SharedSize), count(d.SharedLayers, "layer"))
	if d.Same {
		p.line("Files, packages and configuration are the same.")
		return p.end()
	}
	p.differences("PACKAGES", d.Packages)
	p.differences("CONFIGURATION", d.Config)
	p.heading(fmt.Sprintf("FILES (%d added, %d changed, %d removed; the largest)", d.Added, d.Changed, d.Removed))
	for _, f := range d.Files {
		p.file(f)
	}
	return p.end()
}

func (p *page) differences(what string, list []Difference) {
	if len(list) > 0 {
		p.heading(what)
	}
	for _, x := range list {
		switch {
		case x.A == "":
			p.line("  + %s\t%s", shown(x.What), shown(x.B))
		case x.B == "":
			p.line("  - %s\t%s", shown(x.What), shown(x.A))
		default:
			p.line("  ~ %s\t%s → %s", shown(x.What), shown(x.A), shown(x.B))
		}
	}
}

func (p *page) file(f FileChange) {
	size := SizeText(max(f.SizeA, f.SizeB))
	if f.Change == Changed && f.SizeA != f.SizeB {
		size = SizeText(f.SizeA) + " → " + SizeText(f.SizeB)
	}
	p.line("  %s\t%s\t%s\t%s", sign(f.Change), size, shownPath(f.Path), f.What)
}
