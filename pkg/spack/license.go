package spack

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// A package's licence stands in two files below its prefix: in the bill of
// materials that newer versions of Spack write, where conditions are resolved,
// and in the recipe that it was installed from.
const (
	SBOMFile   = ".spack/sbom/spdx-2.3.json"
	RecipeFile = "package.py"
)

// DeclaredLicense returns the licence that Spack's bill of materials declares
// for a package, "" if none.
func DeclaredLicense(sbom []byte, name, version string) string {
	var bill struct {
		Packages []struct {
			Name     string `json:"name"`
			Version  string `json:"versionInfo"`
			Declared string `json:"licenseDeclared"`
		} `json:"packages"`
	}
	if json.Unmarshal(sbom, &bill) != nil {
		return ""
	}
	for _, p := range bill.Packages {
		if p.Name == name && p.Version == version && p.Declared != "NOASSERTION" && p.Declared != "NONE" {
			return p.Declared
		}
	}
	return ""
}

// licenseLine is the directive of a recipe.
var licenseLine = regexp.MustCompile(`(?m)^ {4}license\(\s*["']([^"']+)["']([^)]*)`)

// RecipeLicense returns the licence that a recipe gives a package under all
// conditions, "" if none.
func RecipeLicense(recipe []byte) string {
	for _, m := range licenseLine.FindAllSubmatch(recipe, -1) {
		if !bytes.Contains(m[2], []byte("when=")) {
			return string(m[1])
		}
	}
	return ""
}
