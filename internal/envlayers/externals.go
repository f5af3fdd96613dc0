package envlayers

import (
	"fmt"
	"path"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
)

// MissingExternals names packages of the distribution, or of others, that the
// environment needs to run and that the builder has and the final root has not:
// their prefix, or the program with their name.
func MissingExternals(in *spackinstall.Installation, builder, final *rootfs.Root) (missing []string) {
	lacks := func(name string) bool {
		if _, err := builder.Stat(name); err != nil {
			return false
		}
		_, err := final.Stat(name)
		return err != nil
	}
	for _, p := range in.Externals {
		if p.Prefix == "" {
			continue
		}
		for _, name := range []string{p.Prefix, path.Join(p.Prefix, "bin", p.Name)} {
			if lacks(name) {
				missing = append(missing, fmt.Sprintf("%s (%s)", p, name))
				break
			}
		}
	}
	return missing
}
