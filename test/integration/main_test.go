//go:build integration

// Package integration runs the real program and judges what it leaves behind:
// the images, the store, the processes and the logs. Its tests say what must be
// true for a user, so they know no other package of this module.
//
// They run as root, as an ordinary user with a range in /etc/subuid, and as an
// ordinary user without one:
//
//	go test -tags integration ./test/integration
//
// Variables of the environment, all optional:
//
//	PDIBUILD_BIN         the program; by default it is built
//	PDIBUILD_TEST_STORE  the image store, kept between runs
//	PDIBUILD_TEST_RACE_SECONDS
//	                     for how long the race for mount points is tried in each
//	                     isolation; by default 3
//	PDIBUILD_TEST_IDS    a directory that gets the id of examples/hello-mpi,
//	                     in a file named after the kind of user
//	PDIBUILD_TEST_OTHER_USER
//	                     runs the tests of dependsOnUser alone
package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// buildTags are those that hack/lib.sh has.
const buildTags = "containers_image_openpgp exclude_graphdriver_btrfs"

var (
	// program is the pdibuild under test.
	program string
	// sharedStore is the image store in which the base image is made once.
	sharedStore string
)

func TestMain(m *testing.M) {
	if os.Getenv(searchEnv) != "" {
		searchMain()
		return
	}
	if os.Getenv(sandboxEnv) != "" {
		os.Exit(fatal(sandboxMain()))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pdibuild-integration-")
	if err != nil {
		return fatal(err)
	}
	defer os.RemoveAll(dir)
	if program, err = findProgram(dir); err != nil {
		return fatal(err)
	}
	if sharedStore, err = findStore(); err != nil {
		return fatal(err)
	}
	if err := onlyUsersTests(); err != nil {
		return fatal(err)
	}
	fmt.Fprintf(os.Stderr, "user: %s, program: %s, store: %s\n", kindOfUser(), program, sharedStore)
	return m.Run()
}

func fatal(err error) int {
	fmt.Fprintln(os.Stderr, "integration tests:", err)
	return 1
}

func findProgram(dir string) (string, error) {
	if path := os.Getenv("PDIBUILD_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "pdibuild")
	out, err := exec.Command("go", "build", "-tags", buildTags, "-o", path, "../../cmd/pdibuild").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build pdibuild (or set PDIBUILD_BIN): %w\n%s", err, out)
	}
	return path, nil
}

// findStore must give every user a store of their own, on a file system that
// has extended attributes; a tmpfs at /tmp would not do.
func findStore() (string, error) {
	path := os.Getenv("PDIBUILD_TEST_STORE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for the image store (or set PDIBUILD_TEST_STORE): %w", err)
		}
		path = filepath.Join(cache, "pdibuild-test", "store")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, os.MkdirAll(path, 0o700)
}
