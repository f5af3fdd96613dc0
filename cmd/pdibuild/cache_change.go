package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

const copyLong = `Copy packages from one binary cache to another: all of them, or those that
FILTERs choose with what they link and run with. Only what is not there is
copied. Prints the hashes of what was copied.

A copy can be interrupted at any time; the next one goes on. At the end the
destination's index is made anew.`

const copyExample = `  pdibuild cache buildcache copy oci://ghcr.io/site/cache /scratch/cache
  pdibuild cache buildcache copy /scratch/cache oci://ghcr.io/site/cache pdi@1.9
  pdibuild cache buildcache copy SOURCE DESTINATION --lock spack.lock
  pdibuild cache buildcache copy --dependencies all SOURCE DESTINATION /6ax4uht`

// copyFlags are those of copy alone.
type copyFlags struct {
	cacheFlags
	sourceCreds, destCreds string
	choice                 choiceFlags
	ring                   keyringFlag
	dryRun, noIndex, check bool
}

func newBuildcacheCopy(a *app) *cobra.Command {
	var flags copyFlags
	cmd := &cobra.Command{
		Use:     "copy SOURCE DESTINATION [FILTER...]",
		Short:   "Copy packages between binary caches",
		Long:    copyLong,
		Example: copyExample,
		Args:    arguments(2, -1, "a SOURCE and a DESTINATION and perhaps FILTERs"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opt, err := flags.copyOptions(a, args[2:])
		if err != nil {
			return err
		}
		if opt.Keys, err = flags.ring.read(); err != nil {
			return err
		}
		flags.mainCreds = flags.destCreds
		return flags.inCache(a, cmd, args[1], func(ctx context.Context, dst *buildcache.Cache) error {
			src, err := flags.openCache(ctx, a, args[0], flags.sourceCreds)
			if err != nil {
				return err
			}
			result, err := buildcache.Copy(ctx, src, dst, opt)
			if result == nil || err != nil && len(result.Copied)+len(result.Failed) == 0 {
				return err
			}
			if printing := a.printCopy(result, flags); err == nil {
				err = printing
			}
			return err
		})
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.sourceCreds, "src-creds", "", "`user[:password]` for SOURCE alone")
	f.StringVar(&flags.destCreds, "dest-creds", "", "`user[:password]` for DESTINATION alone")
	flags.addUpload(cmd)
	flags.choice.add(cmd)
	flags.ring.add(cmd, "that packages of SOURCE have to be signed with; others are not copied")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be copied, and copy nothing")
	f.BoolVar(&flags.check, "check", false, "look whether all is there of packages that a registry holds, and send what is not")
	f.BoolVar(&flags.noIndex, "no-index", false, "leave the index of DESTINATION as it is")
	return cmd
}

func (c *copyFlags) copyOptions(a *app, args []string) (buildcache.CopyOptions, error) {
	opt := buildcache.CopyOptions{DryRun: c.dryRun, NoIndex: c.noIndex, Check: c.check}
	var err error
	if opt.Dependencies, err = c.choice.kind(); err != nil {
		return opt, err
	}
	filters, err := c.choice.filters(args)
	if err != nil {
		return opt, err
	}
	opt.Filters = filters
	opt.Progress = c.progress(a)
	return opt, nil
}

// progress says what is done with each package, unless nobody wants to know.
func (c *cacheFlags) progress(a *app) func(buildcache.CopyEvent) {
	if c.quiet {
		return nil
	}
	return func(e buildcache.CopyEvent) {
		switch {
		case e.Err != nil:
			a.note("[%d/%d] %s could not be copied: %v", e.Done, e.Total, e.Package, e.Err)
		case !e.Present:
			a.note("[%d/%d] %s", e.Done, e.Total, e.Package)
		}
	}
}

func (a *app) printCopy(result *buildcache.CopyResult, flags copyFlags) error {
	return a.printSent(result, &flags.cacheFlags, flags.dryRun)
}

// printSent says which packages were sent.
func (a *app) printSent(result *buildcache.CopyResult, flags *cacheFlags, dryRun bool) error {
	if flags.format == "json" {
		return printJSON(a.stdout, result)
	}
	for _, hash := range result.Copied {
		if _, err := fmt.Fprintln(a.stdout, hash); err != nil {
			return err
		}
	}
	if flags.quiet {
		return nil
	}
	for _, d := range result.Absent {
		a.note("%s/%s is not in the source", d.Name, d.Hash[:min(len(d.Hash), hashWidth)])
	}
	verb := "copied"
	if dryRun {
		verb = "would be copied"
	}
	a.note("%d packages %s, %d were there; %d blobs with %s sent, %d mounted", len(result.Copied), verb, len(result.Present),
		result.SentBlobs, quantity.Format(result.SentBytes), result.MountedBlobs)
	return nil
}

const pruneLong = `Remove packages from a binary cache: those that are older than --older-than, or
all but those that --keep and --keep-from name; with both, those that are old and
not named. What a package that stays links and runs with stays, too. In a
directory, content that no package names any more is removed as well; a registry
does that when its garbage is collected. Prints the hashes of what was removed.`

// pruneFlags are those of prune alone.
type pruneFlags struct {
	cacheFlags
	olderThan string
	keep      []string
	keepFrom  []string
	dryRun    bool
}

func newBuildcachePrune(a *app) *cobra.Command {
	var flags pruneFlags
	cmd := &cobra.Command{
		Use:   "prune CACHE",
		Short: "Remove packages from a binary cache",
		Long:  pruneLong,
		Example: `  pdibuild cache buildcache prune --older-than 90d --dry-run /scratch/cache
  pdibuild cache buildcache prune --keep-from spack.lock /scratch/cache`,
		Args: arguments(1, 1, "a CACHE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opt, err := flags.pruneOptions()
		if err != nil {
			return err
		}
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			result, err := c.Prune(ctx, opt)
			if err != nil {
				return err
			}
			return a.printPrune(result, flags)
		})
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.olderThan, "older-than", "", "`age` such as 90d, 2w or 36h")
	f.StringSliceVar(&flags.keep, "keep", nil, "`hash` of a package that stays; in full")
	f.StringSliceVar(&flags.keepFrom, "keep-from", nil, "`file` with hashes of packages that stay: a spack.lock, or any text")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	return cmd
}

// wholeHash finds DAG hashes in a text.
var wholeHash = regexp.MustCompile(`\b[a-z2-7]{32}\b`)

func (p *pruneFlags) pruneOptions() (buildcache.PruneOptions, error) {
	opt := buildcache.PruneOptions{DryRun: p.dryRun}
	if p.olderThan != "" {
		age, err := quantity.Age(p.olderThan)
		if err != nil {
			return opt, usagef("'pdibuild cache buildcache prune --help' has examples", "--older-than: %w", err)
		}
		opt.Before = time.Now().Add(-age)
	}
	for _, hash := range p.keep {
		hash = strings.TrimPrefix(hash, "/")
		if wholeHash.FindString(hash) != hash {
			return opt, usagef("'pdibuild cache buildcache info' shows a hash in full", "--keep: %q is no hash of 32 characters", hash)
		}
		opt.Keep = append(opt.Keep, hash)
	}
	for _, file := range p.keepFrom {
		text, err := os.ReadFile(file)
		if err != nil {
			return opt, fmt.Errorf("--keep-from: %w", err)
		}
		hashes := wholeHash.FindAllString(string(text), -1)
		if len(hashes) == 0 { // else all would go
			return opt, usagef("name a spack.lock", "--keep-from: there is no hash in %s", file)
		}
		opt.Keep = append(opt.Keep, hashes...)
	}
	return opt, nil
}

func (a *app) printPrune(result *buildcache.PruneResult, flags pruneFlags) error {
	if flags.format == "json" {
		return printJSON(a.stdout, result)
	}
	for _, p := range result.Removed {
		if _, err := fmt.Fprintln(a.stdout, p.Hash); err != nil {
			return err
		}
	}
	if !flags.quiet {
		verb := "removed"
		if flags.dryRun {
			verb = "would be removed"
		}
		a.note("%d packages %s, %d stay; %d blobs with %s", len(result.Removed), verb, result.Kept, result.Blobs, quantity.Format(result.Bytes))
	}
	return nil
}

func newBuildcacheIndex(a *app) *cobra.Command {
	var flags cacheFlags
	cmd := &cobra.Command{
		Use:     "index CACHE",
		Aliases: []string{"update-index"},
		Short:   "Make the index of a binary cache anew",
		Long:    "Make the index of a binary cache anew from its packages, as 'spack buildcache\nupdate-index' does. Without it, Spack takes a package only by its very hash.\nPrints the digest of the index.",
		Example: "  pdibuild cache buildcache index oci://ghcr.io/site/cache",
		Args:    arguments(1, 1, "a CACHE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			result, err := c.Index(ctx)
			if err != nil {
				return err
			}
			if flags.format == "json" {
				return printJSON(a.stdout, result)
			}
			for _, f := range result.Unreadable {
				a.note("left out: %s", f)
			}
			_, err = fmt.Fprintln(a.stdout, result.Digest)
			return err
		})
	}
	flags.add(cmd)
	return cmd
}
