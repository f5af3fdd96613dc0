package builder

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// noNamespace is why the tests run outside of a namespace; nil inside.
var noNamespace error

// TestMain lets the tests re-execute themselves, as a program that uses the
// package has to.
func TestMain(m *testing.M) {
	if Init() {
		return
	}
	os.Args[0] = strings.TrimSuffix(os.Args[0], "-in-a-user-namespace")
	if noNamespace = EnterNamespace(); noNamespace != nil {
		flag.Parse()
		_ = flag.Set("test.skip", "^Example$") // an example cannot skip itself
	}
	os.Exit(m.Run())
}

// The package's example is a test that needs namespaces. A host that runs CI has
// to have them.
func TestExampleCanRun(t *testing.T) {
	switch {
	case noNamespace == nil:
	case os.Getenv("CI") != "":
		t.Fatal("the example did not run:", noNamespace)
	default:
		t.Skip("SKIPPED: the example needs namespaces:", noNamespace)
	}
}
