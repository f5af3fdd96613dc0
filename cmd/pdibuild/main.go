// Command pdibuild builds container images for HPC from a recipe, without a
// daemon and without root. It is a thin layer over pkg/recipe, which says what
// to build, and pkg/builder, which does it: this package talks to the human.
package main

import (
	"os"

	"github.com/pdidev/pdibuild/pkg/builder"
)

func main() {
	if builder.Init() {
		return // a helper process of a build; its work is done
	}
	os.Exit(newApp().main(os.Args[1:]))
}
