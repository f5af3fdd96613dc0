package builder

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain lets the tests re-execute themselves, as a program that uses the
// package has to.
func TestMain(m *testing.M) {
	if Init() {
		return
	}
	os.Args[0] = strings.TrimSuffix(os.Args[0], "-in-a-user-namespace")
	if err := EnterNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "SKIPPED: package builder needs namespaces:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}
