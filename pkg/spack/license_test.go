package spack_test

import (
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

func TestDeclaredLicense(t *testing.T) {
	const bill = `{"spdxVersion": "SPDX-2.3", "packages": [
		{"name": "paraconf", "versionInfo": "1.0", "licenseDeclared": "MIT"},
		{"name": "libyaml", "versionInfo": "0.2.5", "licenseDeclared": "NOASSERTION"}]}`
	for _, test := range []struct{ bill, name, version, want string }{
		{bill, "paraconf", "1.0", "MIT"},
		{bill, "paraconf", "2.0", ""},
		{bill, "libyaml", "0.2.5", ""},
		{"{", "paraconf", "1.0", ""},
		{"", "paraconf", "1.0", ""},
	} {
		if got := spack.DeclaredLicense([]byte(test.bill), test.name, test.version); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.name, test.version, got, test.want)
		}
	}
}

func TestRecipeLicense(t *testing.T) {
	for recipe, want := range map[string]string{
		"class A(Package):\n    license(\"MIT\", checked_by=\"x\")\n":                                  "MIT",
		"class A(Package):\n    license(\"MIT\", when=\"@1:\")\n    license('Zlib OR BSD-3-Clause')\n": "Zlib OR BSD-3-Clause",
		"class A(Package):\n    license(\"MIT\", when=\"@1:\")\n":                                      "",
		"# license(\"MIT\")\n": "",
	} {
		if got := spack.RecipeLicense([]byte(recipe)); got != want {
			t.Errorf("%q: %q, want %q", recipe, got, want)
		}
	}
}
