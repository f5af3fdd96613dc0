package buildcache

import (
	"slices"
	"strings"
	"testing"
)

// What Spack 1.3 says of each of these versions:
// [v for v in versions if Version(v).satisfies(ver(list))].
func TestVersionsAreComparedAsSpackDoes(t *testing.T) {
	versions := strings.Fields("1.2 1.2.0 1.2.1 1.10 1.2-rc1 1.2rc2 1.2beta 1.2-alpha3 1.2a 1.2p1 1.2-patch " +
		"develop main stable 1.2.develop abc 2 02 20240101 1_2 1.2.x 3.9.0rc1 3.9 git.main=2.0")
	for list, want := range map[string]string{
		"1.2":         "1.2 1.2.0 1.2.1 1.2a 1.2p1 1.2-patch 1.2.develop 1_2 1.2.x",
		"1.2:":        "1.2 1.2.0 1.2.1 1.10 1.2a 1.2p1 1.2-patch develop main stable 1.2.develop 2 02 20240101 1_2 1.2.x 3.9.0rc1 3.9 git.main=2.0",
		":1.2":        "1.2 1.2.0 1.2.1 1.2-rc1 1.2rc2 1.2beta 1.2-alpha3 1.2a 1.2p1 1.2-patch 1.2.develop abc 1_2 1.2.x",
		":1.2.0":      "1.2 1.2.0 1.2-rc1 1.2rc2 1.2beta 1.2-alpha3 1.2a 1.2p1 1.2-patch abc 1_2 1.2.x",
		"1.2.1:2":     "1.2.1 1.10 1.2.develop 2 02 git.main=2.0",
		"=1.2":        "1.2 1_2",
		"1.2,2":       "1.2 1.2.0 1.2.1 1.2a 1.2p1 1.2-patch 1.2.develop 2 02 1_2 1.2.x git.main=2.0",
		"develop":     "develop",
		"main:":       "develop main",
		"1.2-rc1:1.2": "1.2 1.2.0 1.2.1 1.2-rc1 1.2rc2 1.2a 1.2p1 1.2-patch 1.2.develop 1_2 1.2.x",
		":1.2rc2":     "1.2-rc1 1.2rc2 1.2beta 1.2-alpha3 abc",
		"3.9:":        "develop main stable 20240101 3.9.0rc1 3.9",
		":abc":        "abc",
	} {
		var got []string
		for _, v := range versions {
			if inVersions(v, list) {
				got = append(got, v)
			}
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("@%s chooses\n%q, Spack\n%q", list, got, strings.Fields(want))
		}
	}
}
