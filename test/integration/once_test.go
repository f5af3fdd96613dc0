//go:build integration

package integration

import (
	"flag"
	"os"
	"strings"
)

// sameForEveryUser are tests whose outcome does not depend on who runs them:
// they are about registries, caches, messages and files of the host. Where
// PDIBUILD_TEST_SKIP_SAME is set they are left out, because another user's run
// has them.
var sameForEveryUser = []string{
	"TestUntouchedContextIsNotRead",
	"TestDoctorClock", "TestDoctorRegistry", "TestDoctorPolicyIsMended", "TestDoctorShowsNoCredentials",
	"TestContextChangesUnderBuild",
	"TestInspectTransports", "TestAttachments", "TestAttachmentsThroughTLS", "TestInspectLimits",
	"TestPruneKeepsWhatImagesNeed", "TestPruneRemovesImagesWithoutAName", "TestABuildKeepsTheLimit",
	"TestProgressIsResized", "TestProgressIsStopped", "TestProgressOfEnvironment", "TestProgressOfTransfers",
	"TestDamagedLayerIsNotPushed", "TestPushAsksForNoLayerAgain", "TestPushInAnotherForm", "TestPushMountsPackages",
	"TestRunExitCodes", "TestRunNeedsCommand", "TestRunFetchesImage",
	"TestSecretMissing", "TestSecretNotInKeys",
	"TestShellFailedRecipeIsGone", "TestShellFailedOnce", "TestShellStage",
	"TestSpackRegistryWithTokens", "TestSpackRegistryTag", "TestSpackRegistryInTrouble", "TestSpackRegistryWantsFewerRequests",
	"TestSpackHalfWrittenIndex", "TestSpackLock", "TestSpackEstimate", "TestSpackCacheRequired", "TestSpackWrongInput",
	"TestSpackSignedMirror", "TestUnchangedPackagesAreNotRead", "TestSpackFailureIsResumed",
	"TestStepCachePassesOn", "TestStepCacheMountsLayers", "TestStepCacheMin", "TestStepCacheRefusesPoison",
	"TestStepCacheUnreachable", "TestStepCacheExportImport", "TestStepCacheKnowsSpackEnvironments",
	"TestWrongInputHasAPlace", "TestOutputWithoutAPlace", "TestRemoveShortName",
}

func skipSame() error {
	if os.Getenv("PDIBUILD_TEST_SKIP_SAME") == "" {
		return nil
	}
	flag.Parse()
	return flag.Set("test.skip", "^("+strings.Join(sameForEveryUser, "|")+")$")
}
