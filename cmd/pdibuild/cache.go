package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

const cacheLong = `Look at what is kept for later builds, and remove it:

  pdibuild cache ls                  list it, and what keeps it
  pdibuild cache du                  tell how much it is
  pdibuild cache prune               remove what was unused for longest
  pdibuild cache verify              compare it with its digests
  pdibuild cache export              send finished steps to a registry or directory
  pdibuild cache import              fetch finished steps from there

docs/cache.md explains them. Work with Spack's binary caches, directories and
registries alike:

  pdibuild cache buildcache ls       list the packages
  pdibuild cache buildcache info     tell all about one package
  pdibuild cache buildcache verify   check that all is there and sound
  pdibuild cache buildcache copy     bring packages from one cache to another
  pdibuild cache buildcache push     make packages of what is installed
  pdibuild cache buildcache pull     unpack packages into an install tree
  pdibuild cache buildcache prune    remove packages
  pdibuild cache buildcache index    make the index anew

docs/buildcache.md explains them.`

func newCache(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache VERB",
		Short: "Work with what is kept for later builds, and with Spack's binary caches",
		Long:  cacheLong,
	}
	cmd.AddCommand(newCacheLs(a), newCacheDu(a), newCachePrune(a), newCacheVerify(a), newCacheExport(a), newCacheImport(a), newBuildcache(a))
	return group(cmd)
}

// group makes cmd say what is wrong when it is given no verb, or none of its
// own.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(seeHelp(cmd), "%s needs a verb", cmd.CommandPath())
		}
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		hint := seeHelp(cmd)
		if near := nearest(args[0], names); near != "" {
			hint = fmt.Sprintf("did you mean '%s %s'? %s", cmd.CommandPath(), near, hint)
		}
		return usagef(hint, "%s: unknown verb %q", cmd.CommandPath(), args[0])
	}
	return cmd
}
