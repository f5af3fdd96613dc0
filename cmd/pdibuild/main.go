// Command pdibuild builds container images for HPC from a recipe, without a
// daemon and without root. It is a thin layer over pkg/recipe, which says what
// to build, and pkg/builder, which does it: this package talks to the human.
package main

import (
	"os"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// standardPath is where a host's programs are if nobody says so: without
// newuidmap, for example, a user would seem to have a single id.
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	if os.Getenv("PATH") == "" {
		_ = os.Setenv("PATH", standardPath) // fails for bad names only
	}
	if builder.Init() {
		return // a helper process of a build; its work is done
	}
	os.Exit(newApp().main(os.Args[1:]))
}
