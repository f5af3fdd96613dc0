//go:build integration

// Package hack has the tests that are scripts: they take minutes and need a
// machine on which podman and mmdebstrap work.
package hack

import (
	"errors"
	"os/exec"
	"testing"
)

// skipped is the exit status of a script that cannot be run on this host.
const skipped = 77

func TestReleaseRunsOnAnOldDistribution(t *testing.T) { script(t, "./test-release") }

func TestCIScriptInAnUnprivilegedContainer(t *testing.T) { script(t, "./test-ci-container") }

// script runs a script of this directory, beside the other ones; its output is
// the test's.
func script(t *testing.T, path string) {
	t.Helper()
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), path).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == skipped:
		t.Skipf("%s", out)
	case err != nil:
		t.Errorf("%s: %v\n%s", path, err, out)
	default:
		t.Logf("%s", out)
	}
}
