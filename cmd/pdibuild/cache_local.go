package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
)

func newCacheLs(a *app) *cobra.Command {
	var (
		store  storeFlags
		format string
		kinds  []string
	)
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List what is kept for later builds",
		Long: `List what is kept for later builds, with its size, when it was last used, and what
keeps it: images with a name, containers, running builds. All else may be pruned.
What is used last comes first.`,
		Example: "  pdibuild cache ls\n  pdibuild cache ls --kind step,package --format json",
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("format", format, "table", "json"); err != nil {
			return err
		}
		for _, k := range kinds {
			if err := oneOf("kind", k, kindNames()...); err != nil {
				return err
			}
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			entries, err := e.CacheEntries(ctx)
			if err != nil {
				return err
			}
			entries = slices.DeleteFunc(entries, func(c builder.CacheEntry) bool {
				return len(kinds) > 0 && !slices.Contains(kinds, string(c.Kind))
			})
			if format == "json" {
				return printJSON(a.stdout, append([]builder.CacheEntry{}, entries...)) // [], not null
			}
			return printEntries(a.stdout, entries)
		})
	}
	cmd.Flags().StringVar(&format, "format", "table", "`form` of the output: table or json")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "`kinds` to list, with commas between: "+strings.Join(kindNames(), ", "))
	complete(cmd, "format", "table", "json")
	complete(cmd, "kind", kindNames()...)
	store.addStore(cmd)
	return cmd
}

// kindNames are in the order in which du prints them.
func kindNames() []string {
	var names []string
	for _, k := range []builder.CacheKind{
		builder.CacheStep, builder.CacheImage, builder.CacheLayer, builder.CacheFailed, builder.CachePackage, builder.CacheSource, builder.CacheLock,
		builder.CacheTool, builder.CacheMount, builder.CacheDownload, builder.CacheBlobs, builder.CacheLog, builder.CacheRest,
	} {
		names = append(names, string(k))
	}
	return names
}

func printEntries(w io.Writer, entries []builder.CacheEntry) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "KIND\tID\tSIZE\tLAST USE\tKEPT BY\tWHAT")
	for i := range entries {
		e := &entries[i]
		keeps := orDash(len(e.KeptBy) > 0, strings.Join(e.KeptBy, ", "))
		if e.Useless != "" {
			keeps = "nothing: " + e.Useless
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, shortID(e), quantity.Format(e.Size), e.LastUse.Local().Format("2006-01-02 15:04"), keeps, termtext.Line(termtext.FirstLine(e.Text)))
	}
	return tab.Flush()
}

// shortID shortens keys and ids; what people have named stays whole.
func shortID(e *builder.CacheEntry) string {
	switch e.Kind {
	case builder.CacheStep, builder.CacheImage, builder.CacheLayer, builder.CacheFailed, builder.CacheDownload, builder.CacheLock:
		return e.ID[:min(len(e.ID), keyWidth)]
	case builder.CachePackage:
		return e.ID[:min(len(e.ID), hashWidth)]
	}
	return e.ID
}

// A usage is what is kept of one kind.
type usage struct {
	Kind    string `json:"kind"`
	Entries int    `json:"entries"`
	Size    int64  `json:"size"`
	// Prunable is how much of it nothing keeps.
	Prunable int64     `json:"prunable"`
	LastUse  time.Time `json:"last_use"`
}

func newCacheDu(a *app) *cobra.Command {
	var (
		store  storeFlags
		format string
	)
	cmd := &cobra.Command{
		Use:     "du",
		Aliases: []string{"df"},
		Short:   "Tell how much is kept for later builds",
		Long: `Tell for each kind of what is kept for later builds how many entries there are,
how large they are, and how much 'pdibuild cache prune --all' would remove.

Layers of steps may share files through hard links: together they take less space
than is shown.`,
		Example: "  pdibuild cache du",
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("format", format, "table", "json"); err != nil {
			return err
		}
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			entries, err := e.CacheEntries(ctx)
			if err != nil {
				return err
			}
			sums := usages(entries)
			if format == "json" {
				return printJSON(a.stdout, sums)
			}
			return printUsages(a.stdout, sums)
		})
	}
	cmd.Flags().StringVar(&format, "format", "table", "`form` of the output: table or json")
	complete(cmd, "format", "table", "json")
	store.addStore(cmd)
	return cmd
}

// usages sums up the entries; the last one is all together.
func usages(entries []builder.CacheEntry) []usage {
	total, sums := usage{Kind: "total"}, []usage{}
	for _, kind := range kindNames() {
		sum := usage{Kind: kind}
		for i := range entries {
			if string(entries[i].Kind) != kind {
				continue
			}
			for _, u := range []*usage{&sum, &total} {
				u.add(&entries[i])
			}
		}
		if sum.Entries > 0 {
			sums = append(sums, sum)
		}
	}
	return append(sums, total)
}

func (u *usage) add(e *builder.CacheEntry) {
	u.Entries++
	u.Size += e.Size
	if len(e.KeptBy) == 0 {
		u.Prunable += e.Size
	}
	if e.LastUse.After(u.LastUse) {
		u.LastUse = e.LastUse
	}
}

func printUsages(w io.Writer, sums []usage) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "KIND\tENTRIES\tSIZE\tPRUNABLE\tLAST USE")
	for _, u := range sums {
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%s\n", u.Kind, u.Entries, quantity.Format(u.Size), quantity.Format(u.Prunable),
			orDash(!u.LastUse.IsZero(), u.LastUse.Local().Format("2006-01-02 15:04")))
	}
	return tab.Flush()
}

func newCacheVerify(a *app) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read what is kept for later builds, and drop what is damaged",
		Long: `Read the layers of steps, packages, source archives and downloads that are kept
for later builds, and compare them with their digests. What is damaged is dropped,
with one line each, and made again by the next build. Exit code 1 says that
something was.`,
		Example: "  pdibuild cache verify",
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.inStore(cmd, store.session(a), func(ctx context.Context, e engine) error {
			var failed error
			looked, damaged, err := e.VerifyCache(ctx, func(text string) {
				if _, err := fmt.Fprintln(a.stdout, text); err != nil {
					failed = err
				}
			})
			if err != nil || failed != nil {
				return fmt.Errorf("verify the cache: %w", errors.Join(err, failed))
			}
			a.note("%d entries read, %d of them damaged", looked, damaged)
			if damaged > 0 {
				return fmt.Errorf("%d entries of the cache were damaged; they were dropped", damaged)
			}
			return nil
		})
	}
	store.addStore(cmd)
	return cmd
}
