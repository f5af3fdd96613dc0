//go:build integration

package library

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
)

var builds = flag.Int("builds", 4, "how many `builds` follow each other in one process")

// TestMain is the main of a program that uses the library.
func TestMain(m *testing.M) {
	if builder.Init() {
		return
	}
	os.Args[0] = strings.TrimSuffix(os.Args[0], "-in-a-user-namespace")
	if err := builder.EnterNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "SKIPPED: nothing can be built here:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}
