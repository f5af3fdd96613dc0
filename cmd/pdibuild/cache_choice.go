package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// choiceFlags choose packages besides FILTER arguments.
type choiceFlags struct {
	specs, locks []string
	// dependencies is the value of that flag, whose closure of a lock file
	// is meant.
	dependencies string
}

func (c *choiceFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&c.specs, "spec", nil, "`filter`, the same as one behind CACHE")
	f.StringArrayVar(&c.locks, "lock", nil, "`file`: take what this spack.lock asks for")
	f.StringVar(&c.dependencies, "dependencies", "runtime", "`kind` that comes along with what is chosen: runtime, all or none")
	complete(cmd, "dependencies", "runtime", "all", "none")
}

// kind is what --dependencies says.
func (c *choiceFlags) kind() (buildcache.Dependencies, error) {
	if err := oneOf("dependencies", c.dependencies, "runtime", "all", "none"); err != nil {
		return 0, err
	}
	return map[string]buildcache.Dependencies{
		"runtime": buildcache.RuntimeDependencies, "all": buildcache.AllDependencies, "none": buildcache.NoDependencies,
	}[c.dependencies], nil
}

// filters are those of the arguments and of the flags.
func (c *choiceFlags) filters(args []string) ([]buildcache.Filter, error) {
	filters, err := parseFilters(append(append([]string{}, args...), c.specs...))
	if err != nil {
		return nil, err
	}
	for _, name := range c.locks {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--lock: %w", err)
		}
		lock, err := spack.ParseLock(name, data)
		if err != nil {
			return nil, usagef("name the spack.lock that 'spack concretize' has written", "--lock: %w", err)
		}
		hashes, err := c.locked(lock)
		if err != nil {
			return nil, fmt.Errorf("--lock: %s: %w", name, err)
		}
		if len(hashes) == 0 { // else all would be chosen
			return nil, usagef("name the spack.lock of an environment with specs", "--lock: %s asks for no package", name)
		}
		for _, hash := range hashes {
			filters = append(filters, buildcache.Filter{Hash: hash})
		}
	}
	return filters, nil
}

// locked are the packages of a lock file that are meant. The lock knows what
// depends on what, even where a cache has holes.
func (c *choiceFlags) locked(lock *spack.Lock) ([]string, error) {
	var roots []string
	for _, r := range lock.Roots {
		roots = append(roots, r.Hash)
	}
	if c.dependencies == "none" {
		return roots, nil
	}
	var types []spack.DepType
	if c.dependencies == "runtime" {
		types = []spack.DepType{spack.Link, spack.Run}
	}
	specs, err := lock.Specs.Closure(roots, types...)
	var hashes []string
	for _, s := range specs {
		if s.External == nil {
			hashes = append(hashes, s.Hash)
		}
	}
	return hashes, err
}

// keyringFlag names public keys.
type keyringFlag struct{ files []string }

func (k *keyringFlag) add(cmd *cobra.Command, purpose string) {
	cmd.Flags().StringArrayVar(&k.files, "keyring", nil, "`file` with public keys ('gpg --export') "+purpose)
}

// read returns nil if there is no such flag.
func (k *keyringFlag) read() (*buildcache.Keys, error) {
	if len(k.files) == 0 {
		return nil, nil
	}
	var files [][]byte
	for _, name := range k.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--keyring: %w", err)
		}
		files = append(files, data)
	}
	keys, err := buildcache.ReadKeys(files...)
	if err != nil || len(keys.Names()) == 0 {
		return nil, usagef("write it with 'gpg --export KEY > FILE' or 'spack gpg export FILE'", "--keyring %s: it holds no public keys", strings.Join(k.files, ", "))
	}
	return keys, nil
}
