package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

const prefixesLong = `Make binary packages of what Spack has installed, and put them into a cache: of
PREFIXes, each with .spack/spec.json in it, or of all that is installed in the
tree --from-db, of which FILTERs choose some with what they link and run with.
Packages that the cache has already are left alone.

Neither Spack nor a compiler is needed. The tree may be in the root of an image.
Prints the hashes of what was pushed.`

const prefixesExample = `  pdibuild cache buildcache push oci://ghcr.io/site/cache /opt/software/linux-zen4/hdf5-1.14.3-6ax4uht…
  pdibuild cache buildcache push /scratch/cache --from-db /opt/software
  pdibuild cache buildcache push /scratch/cache --from-db /opt/software pdi@1.9`

// prefixesFlags are those of push alone.
type prefixesFlags struct {
	cacheFlags
	choice          choiceFlags
	fromDB, tempDir string
	dryRun, noIndex bool
}

func newBuildcachePush(a *app) *cobra.Command {
	var flags prefixesFlags
	cmd := &cobra.Command{
		Use:     "push CACHE {PREFIX... | --from-db INSTALL_TREE [FILTER...]}",
		Short:   "Make packages of what is installed, and put them into a cache",
		Long:    prefixesLong,
		Example: prefixesExample,
		Args:    arguments(1, -1, "a CACHE and PREFIXes, or --from-db"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opt, prefixes, err := flags.options(a, args[1:])
		if err != nil {
			return err
		}
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			result, err := c.Push(ctx, flags.fromDB, prefixes, opt)
			if result == nil || err != nil && len(result.Copied)+len(result.Failed) == 0 {
				return err
			}
			if printing := a.printSent(result, &flags.cacheFlags, flags.dryRun); err == nil {
				err = printing
			}
			return err
		})
	}
	flags.add(cmd)
	flags.addUpload(cmd)
	flags.choice.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.fromDB, "from-db", "", "`directory`: all that is installed in this install tree, which has .spack-db in it")
	f.StringVar(&flags.tempDir, "temp-dir", "", "`directory` for archives on their way (default: the system's)")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be pushed, and push nothing")
	f.BoolVar(&flags.noIndex, "no-index", false, "leave the index of CACHE as it is")
	return cmd
}

func (p *prefixesFlags) options(a *app, args []string) (opt buildcache.PushOptions, prefixes []string, err error) {
	opt.TempDir, opt.DryRun, opt.NoIndex, opt.Progress = p.tempDir, p.dryRun, p.noIndex, p.progress(a)
	if opt.Dependencies, err = p.choice.kind(); err != nil {
		return opt, nil, err
	}
	if p.fromDB == "" {
		if prefixes = args; len(prefixes) == 0 {
			return opt, nil, usagef("name PREFIXes such as /opt/software/linux-zen4/zlib-1.3.1-HASH, or --from-db /opt/software", "there is nothing to push")
		}
		args = nil
	}
	opt.Filters, err = p.choice.filters(args)
	return opt, prefixes, err
}

const pullLong = `Unpack packages of a binary cache into an install tree: those that FILTERs choose
with what they link and run with, or all. Paths in their files are changed to
where they are now, as Spack does it; programs have room for paths that are not
longer than those that the package was made with. A prefix appears when all of it
is there; what is there is left alone.

Spack is not needed. A Spack that uses the tree knows the packages after 'spack
reindex'. Prints the prefixes.`

// pullFlags are those of pull alone.
type pullFlags struct {
	cacheFlags
	choice choiceFlags
	ring   keyringFlag
	tree   string
}

func newBuildcachePull(a *app) *cobra.Command {
	var flags pullFlags
	cmd := &cobra.Command{
		Use:   "pull CACHE INSTALL_TREE [FILTER...]",
		Short: "Unpack packages into an install tree",
		Long:  pullLong,
		Example: `  pdibuild cache buildcache pull oci://ghcr.io/site/cache ~/software pdi@1.9
  pdibuild cache buildcache pull /scratch/cache root/opt/software --as /opt/software --lock spack.lock`,
		Args: arguments(2, -1, "a CACHE, an INSTALL_TREE and perhaps FILTERs"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opt, err := flags.options(a, args[2:])
		if err != nil {
			return err
		}
		return flags.inCache(a, cmd, args[0], func(ctx context.Context, c *buildcache.Cache) error {
			result, err := c.Pull(ctx, args[1], opt)
			if result == nil {
				return err
			}
			if printing := a.printPulled(result, flags); err == nil {
				err = printing
			}
			return err
		})
	}
	flags.add(cmd)
	flags.choice.add(cmd)
	flags.ring.add(cmd, "that packages have to be signed with; others end it")
	cmd.Flags().StringVar(&flags.tree, "as", "", "`path` of the tree where its programs will run, which is what files are told (default: INSTALL_TREE)")
	return cmd
}

func (p *pullFlags) options(a *app, args []string) (opt buildcache.PullOptions, err error) {
	opt.Tree, opt.Progress = p.tree, p.progress(a)
	if opt.Dependencies, err = p.choice.kind(); err != nil {
		return opt, err
	}
	if opt.Keys, err = p.ring.read(); err != nil {
		return opt, err
	}
	opt.Filters, err = p.choice.filters(args)
	return opt, err
}

func (a *app) printPulled(result *buildcache.PullResult, flags pullFlags) error {
	if flags.format == "json" {
		return printJSON(a.stdout, result)
	}
	for _, prefix := range result.Prefixes {
		if _, err := fmt.Fprintln(a.stdout, prefix); err != nil {
			return err
		}
	}
	if flags.quiet {
		return nil
	}
	for _, d := range result.Absent {
		a.note("%s/%s is not in the cache", d.Name, d.Hash[:min(len(d.Hash), hashWidth)])
	}
	if result.Sbang != "" {
		a.note("scripts want %s, which Spack puts there when it installs a package into the tree", result.Sbang)
	}
	a.note("%d packages unpacked, %d were there; 'spack reindex' tells a Spack that uses the tree", len(result.Prefixes), len(result.Present))
	return nil
}
