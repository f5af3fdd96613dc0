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
//	PDIBUILD_TEST_STORE  the directory of image stores, kept between runs
//	PDIBUILD_TEST_IMAGES the directory of images that take long to make; other
//	                     users' runs may share it
//	PDIBUILD_TEST_RACE_SECONDS
//	                     for how long the race for mount points is tried in each
//	                     isolation; by default 3
//	PDIBUILD_TEST_IDS    a directory that gets the id of examples/hello-mpi,
//	                     in a file named after the kind of user
//	PDIBUILD_TEST_OTHER_USER
//	                     runs the tests of dependsOnUser alone
//	PDIBUILD_TEST_FULL   with it, also those that take minutes
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
	// storeRoot has the image stores of this user.
	storeRoot string
	// imagesDir has images that take long to make.
	imagesDir string
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
	if storeRoot, err = findStores(); err != nil {
		return fatal(err)
	}
	if imagesDir = os.Getenv("PDIBUILD_TEST_IMAGES"); imagesDir == "" {
		imagesDir = filepath.Join(storeRoot, "images")
	}
	if err := os.MkdirAll(imagesDir, 0o755); err != nil {
		return fatal(err)
	}
	if err := onlyUsersTests(); err != nil {
		return fatal(err)
	}
	fmt.Fprintf(os.Stderr, "user: %s, program: %s, stores: %s\n", kindOfUser(), program, storeRoot)
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

// findStores must give every user a directory of their own, on a file system
// that has extended attributes; a tmpfs at /tmp would not do.
func findStores() (string, error) {
	path := os.Getenv("PDIBUILD_TEST_STORE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for image stores (or set PDIBUILD_TEST_STORE): %w", err)
		}
		path = filepath.Join(cache, "pdibuild-test", "stores")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, os.MkdirAll(path, 0o700)
}
