package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

// hashWidth is how much of a hash the tables show, as Spack does.
const hashWidth = 7

func newBuildcacheLs(a *app) *cobra.Command {
	var (
		flags cacheFlags
		brief bool
	)
	cmd := &cobra.Command{
		Use:     "ls CACHE [FILTER...]",
		Aliases: []string{"list"},
		Short:   "List the packages of a binary cache",
		Long:    "List the packages of a binary cache, also those that its index does not know.",
		Example: "  pdibuild cache buildcache ls oci://ghcr.io/site/cache\n  pdibuild cache buildcache ls /scratch/cache 'hdf5@1.14 target=zen*'",
		Args:    arguments(1, -1, "a CACHE and perhaps FILTERs"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filters, err := parseFilters(args[1:])
		if err != nil {
			return err
		}
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			packages, err := c.List(ctx, buildcache.ListOptions{Filters: filters, Brief: brief})
			if err != nil {
				return err
			}
			if flags.format == "json" {
				return printJSON(a.stdout, append([]buildcache.Package{}, packages...)) // [], not null
			}
			return printPackages(a.stdout, packages)
		})
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&brief, "brief", false, "leave out size and date, which takes fewer requests")
	return cmd
}

func printPackages(w io.Writer, packages []buildcache.Package) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "HASH\tPACKAGE\tARCH\tCOMPILER\tSIZE\tDATE")
	for _, p := range packages {
		bytes := orDash(p.Size > 0, quantity.Format(p.Size))
		if p.Problem != "" {
			bytes = "damaged"
		}
		fmt.Fprintf(tab, "%s\t%s@%s\t%s\t%s\t%s\t%s\n", p.Hash[:hashWidth], p.Name, p.Version, p.Arch(),
			orDash(p.Compiler != "", p.Compiler), bytes, orDash(!p.Date.IsZero(), p.Date.Format(time.DateOnly)))
	}
	return tab.Flush()
}

func orDash(known bool, text string) string {
	if known {
		return text
	}
	return "-"
}

func newBuildcacheInfo(a *app) *cobra.Command {
	var flags cacheFlags
	cmd := &cobra.Command{
		Use:     "info CACHE HASH",
		Short:   "Tell all about one package of a binary cache",
		Long:    "Tell all about the package whose hash starts with HASH. With --format json, also\nall that Spack says about it: variants, flags and so on.",
		Example: "  pdibuild cache buildcache info /scratch/cache /6ax4uht",
		Args:    arguments(2, 2, "a CACHE and a HASH"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			info, err := c.Info(ctx, args[1])
			if err != nil {
				return err
			}
			if flags.format == "json" {
				return printJSON(a.stdout, info)
			}
			return printInfo(a.stdout, info)
		})
	}
	flags.add(cmd)
	return cmd
}

func printInfo(w io.Writer, info *buildcache.Info) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(tab, key+"\t"+format+"\n", args...) }
	line("package", "%s@%s", info.Name, info.Version)
	line("hash", "%s", info.Hash)
	line("arch", "%s", info.Arch())
	line("compiler", "%s", orDash(info.Compiler != "", info.Compiler))
	line("date", "%s", orDash(!info.Date.IsZero(), info.Date.Format(time.RFC3339)))
	line("location", "%s", info.Location)
	line("archive", "%s, %s", info.Archive.Digest, quantity.Format(info.Archive.Size))
	if info.Problem != "" {
		line("problem", "%s", info.Problem)
	}
	line("signed", "%v", info.Signed)
	line("in the index", "%v", info.Indexed)
	missing := map[string]bool{}
	for _, d := range info.Missing {
		missing[d.Hash] = true
	}
	for _, d := range info.Dependencies {
		note := ""
		if missing[d.Hash] {
			note = ", not in this cache"
		}
		line("dependency", "%s/%s (%s%s)", d.Name, d.Hash[:min(len(d.Hash), hashWidth)], strings.Join(d.Types, ", "), note)
	}
	return tab.Flush()
}

const verifyLong = `Compare the index of a binary cache with its packages, and these with their
content: what is missing, cut short or, with --deep, changed. Checks signatures.
Prints one line per finding. Exit code 1 says that something is wrong that makes
Spack build from source, or fail.`

func newBuildcacheVerify(a *app) *cobra.Command {
	var (
		flags cacheFlags
		deep  bool
		ring  keyringFlag
	)
	cmd := &cobra.Command{
		Use:     "verify CACHE [FILTER...]",
		Short:   "Check that a binary cache is whole and sound",
		Long:    verifyLong,
		Example: "  pdibuild cache buildcache verify --deep /scratch/cache",
		Args:    arguments(1, -1, "a CACHE and perhaps FILTERs"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filters, err := parseFilters(args[1:])
		if err != nil {
			return err
		}
		keys, err := ring.read()
		if err != nil {
			return err
		}
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			report, err := c.Verify(ctx, buildcache.VerifyOptions{Filters: filters, Deep: deep, Keys: keys})
			if err != nil {
				return err
			}
			return a.printReport(c, report, flags)
		})
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "read all content and compare its digests")
	ring.add(cmd, "that all packages have to be signed with; without it, signatures are checked with the keys that the cache itself offers")
	return cmd
}

func (a *app) printReport(c *buildcache.Cache, report *buildcache.Report, flags cacheFlags) error {
	if flags.format == "json" {
		if err := printJSON(a.stdout, report); err != nil {
			return err
		}
	} else {
		for _, f := range report.Findings {
			if _, err := fmt.Fprintln(a.stdout, f); err != nil {
				return err
			}
		}
	}
	serious := 0
	for _, f := range report.Findings {
		if f.Serious() {
			serious++
		}
	}
	if !flags.quiet {
		a.note("%d packages, %d blobs, %s looked at; %d packages have a good signature", report.Packages, report.Blobs, quantity.Format(report.Bytes), report.Signed)
	}
	if serious > 0 {
		return fmt.Errorf("%s is not sound: %d of %d findings are serious", c, serious, len(report.Findings))
	}
	return nil
}
