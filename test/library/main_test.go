//go:build integration

package library

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
)

var builds = flag.Int("builds", 4, "how many `builds` follow each other in one process")

// noNamespace is why nothing can be built here; nil where something can.
var noNamespace error

// needNamespace skips where nothing can be built, and fails there in CI.
func needNamespace(t *testing.T) {
	t.Helper()
	switch {
	case noNamespace == nil:
	case os.Getenv("CI") != "":
		t.Fatal(noNamespace)
	default:
		t.Skip("SKIPPED: this test needs namespaces:", noNamespace)
	}
}

// TestMain is the main of a program that uses the library.
func TestMain(m *testing.M) {
	if builder.Init() {
		return
	}
	os.Args[0] = strings.TrimSuffix(os.Args[0], "-in-a-user-namespace")
	noNamespace = builder.EnterNamespace()
	os.Exit(m.Run())
}
