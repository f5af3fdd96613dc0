//go:build integration

package integration

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// dependsOnUser are the tests whose outcome depends on who runs them: they are
// about namespaces, owners, mounts, storage drivers, processes and what an
// ordinary user's host lacks. Everything else goes the same way for everybody,
// and one user's run is enough.
var dependsOnUser = []string{
	// Images: for every user the same, whatever their files are and belong to.
	"TestReproducible", "TestBootstrap", "TestGroupsOfUser", "TestCopyKeeps", "TestLayersKeepFiles", "TestLayersAreImmutable", "TestManyLayers",
	"TestCopyFromStageSeesNothingOfTheHost", "TestReplacedLinkHidesNothing", "TestTouchedFilesOfLayersBelow", "TestDirectoriesThatChangePlaces",
	"TestRootDirectory", "TestWorkdirBelongsToTheUser", "TestOwnersOfLinks", "TestReservedNamesAreRefused", "TestFuseOverlayfs",
	"TestBaseWithStrangeOwners", "TestAccountsOfTheImage", "TestIDsBeyondTheRange", "TestOddConfigurations",
	// Layers that are read and unpacked by root of a namespace.
	"TestPushAndPull", "TestStepCacheWarmsAFreshHost", "TestVerifyFindsAChangedLayer", "TestHostileImages", "TestHostileDevices", "TestSpackEnvironment",
	// Isolation, mounts and secrets.
	"TestStepCannotReachHost", "TestStepFilter", "TestWithoutProcessNamespace", "TestMountPointRace", "TestHostilePackageFindsNoCredential",
	"TestBindMountOfEverything", "TestWritesToBindMountsAreLost", "TestCacheMountHasOwner", "TestMountPoints",
	"TestSecretFile", "TestSecretForAnotherUser", "TestSecretWhileRunning", "TestSearchFinds", "TestSecretInCacheMount",
	// Processes, descriptors and terminals on the way into a namespace.
	"TestInterrupt", "TestKilled", "TestArchiveOnDescriptor", "TestShellFailed", "TestShellOnTerminal",
	"TestRunMPIWritesToVolume", "TestRunHomeBelongsToUser", "TestRunFlags", "TestRunPassesSignals", "TestRunIsKilled",
	// What doctor finds, and where builds work.
	"TestDoctorAndErrorsAgree", "TestDoctorForeignNamespace", "TestDoctorKeepsVFS", "TestDoctorHome", "TestDoctorSituations", "TestDoctorNamesSetting",
	"TestDoctorOldKernel", "TestDoctorHere", "TestDoctorSubordinateIDs", "TestDoctorSeccomp", "TestUnusualSurroundings",
}

// onlyUsersTests selects dependsOnUser where PDIBUILD_TEST_OTHER_USER is set:
// another user's run has all of the tests.
func onlyUsersTests() error {
	if os.Getenv("PDIBUILD_TEST_OTHER_USER") == "" {
		return nil
	}
	flag.Parse()
	if os.Getenv("PDIBUILD_TEST_FULL") != "" {
		dependsOnUser = append(dependsOnUser, "TestHelloMPI")
	}
	all := "^(" + strings.Join(dependsOnUser, "|") + ")$"
	if err := testsExist(all); err != nil {
		return err
	}
	if flag.Lookup("test.run").Value.String() != "" {
		return nil
	}
	return flag.Set("test.run", all)
}

// testsExist returns an error where dependsOnUser has a name that is no test's:
// such a test would be left out without a word.
func testsExist(all string) error {
	cmd := exec.Command("/proc/self/exe", "-test.list", all)
	cmd.Env = append(os.Environ(), "PDIBUILD_TEST_OTHER_USER=")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	listed := map[string]bool{}
	for _, name := range bytes.Fields(out) {
		listed[string(name)] = true
	}
	for _, name := range dependsOnUser {
		if !listed[name] {
			return fmt.Errorf("dependsOnUser has %s, and there is no such test", name)
		}
	}
	return nil
}
