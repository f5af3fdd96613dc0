package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// hashOf makes a Spack hash of a letter.
func hashOf(c string) string { return strings.Repeat(c, 32) }

// specJSON is the .spack/spec.json of a package.
func specJSON(name, version, h string, needs ...string) string {
	var deps []string
	nodes := ""
	for _, n := range needs {
		kind := "link"
		if name, ok := strings.CutPrefix(n, "build:"); ok {
			n, kind = name, "build"
		}
		deps = append(deps, fmt.Sprintf(`{"name": %q, "hash": %q, "parameters": {"deptypes": [%q], "virtuals": []}}`, n, hashOf(n[:1]), kind))
		if n == "openmpi" {
			nodes += fmt.Sprintf(`, {"name": "openmpi", "version": "4.1", "hash": %q, "external": {"path": "/usr"}}`, hashOf("o"))
		}
	}
	return fmt.Sprintf(`{"spec": {"_meta": {"version": 5}, "nodes": [{"name": %q, "version": %q, "hash": %q,
		"arch": {"platform": "linux", "platform_os": "debian12", "target": "x86_64_v3"},
		"parameters": {"shared": true, "debug": false, "build_type": "Release"}, "dependencies": [%s]}%s]}}`, name, version, h, strings.Join(deps, ","), nodes)
}

const dpkgStatus = `Package: libc6
Status: install ok installed
Installed-Size: 12986
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10

Package: bash
Status: install ok installed
Installed-Size: 7164
Architecture: amd64
Version: 5.2.15-2+b7
Pre-Depends: libc6 (>= 2.36), libtinfo6 (>= 6)
Description: GNU Bourne Again SHell
 Package: not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`

func spackFiles() []file {
	const app, hdf5, zlib = "/opt/software/app-1.0-a/", "/opt/software/hdf5-1.14-h/", "/opt/software/zlib-1.3-z/"
	return []file{
		{app + ".spack/spec.json", specJSON("app", "1.0", hashOf("a"), "hdf5", "build:cmake"), 0},
		{hdf5 + ".spack/spec.json", specJSON("hdf5", "1.14", hashOf("h"), "zlib", "openmpi"), 0},
		{hdf5 + ".spack/repos/builtin/packages/hdf5/package.py", "class Hdf5(CMakePackage):\n    license(\"custom\", when=\"@:1\")\n    license(\"BSD-3-Clause\")\n", 0},
		{hdf5 + "lib/libhdf5.so", kilo(40, "h"), 0o755},
		{zlib + ".spack/spec.json", specJSON("zlib", "1.3", hashOf("z")), 0},
		{zlib + ".spack/repos/builtin/packages/zlib/package.py", "class Zlib(Package):\n    license(\"Zlib\", checked_by=\"x\")\n", 0},
		{"/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n", 0},
		{"/var/lib/dpkg/status", dpkgStatus, 0},
		{"/opt/bad/.spack/spec.json", "{not JSON", 0},
	}
}

func TestPackages(t *testing.T) {
	img := read(t, imageOf(t, spackFiles()))
	var got []string
	for _, p := range img.Spack {
		got = append(got, fmt.Sprintf("%s root=%v license=%q external=%v", p, p.Root, p.License, p.External))
	}
	want := []string{
		`app@1.0/aaaaaaa root=true license="" external=false`,
		`hdf5@1.14/hhhhhhh root=false license="BSD-3-Clause" external=false`,
		`openmpi@4.1/ooooooo root=false license="" external=true`,
		`zlib@1.3/zzzzzzz root=false license="Zlib" external=false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("packages:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p := img.Spack[1]; p.Size < 40000 || p.Prefix != "/opt/software/hdf5-1.14-h" || p.Variants != "+shared build_type=Release ~debug" {
		t.Errorf("%+v", p)
	}
	if len(img.Debian) != 2 || img.Debian[0].Name != "bash" || img.Debian[1].Size != 12986<<10 {
		t.Errorf("Debian packages: %v", img.Debian)
	}
	if r := img.Report(ReportOptions{}); r.Release != "Debian GNU/Linux 12 (bookworm)" {
		t.Errorf("release %q", r.Release)
	}
}

// The licence is from Spack's own bill where there is one, from the list of
// pdibuild's images, or from the recipe.
func TestLicenses(t *testing.T) {
	bill := file{"/opt/software/app-1.0-a/.spack/sbom/spdx-2.3.json", `{"packages": [{"name": "app", "versionInfo": "1.0", "licenseDeclared": "MIT"}]}`, 0}
	list := file{"/opt/spack-environment/licenses.json", `{"` + hashOf("z") + `": "Apache-2.0", "` + hashOf("y") + `": "ISC"}`, 0}
	other := file{"/usr/share/licenses.json", `["not this one"]`, 0}
	img := read(t, imageOf(t, append(spackFiles(), bill, list, other, file{"/opt/software/yaml-1-y/.spack/spec.json", specJSON("yaml", "1", hashOf("y")), 0})))
	got := map[string]string{}
	for _, p := range img.Spack {
		got[p.Name] = p.License
	}
	for name, want := range map[string]string{"app": "MIT", "hdf5": "BSD-3-Clause", "zlib": "Zlib", "yaml": "ISC"} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// A package whose files a later layer removes is not there.
func TestRemovedPackage(t *testing.T) {
	img := read(t, imageOf(t, spackFiles(), []file{{"/opt/software/.wh.app-1.0-a", "", 0}}))
	for _, p := range img.Spack {
		if p.Name == "app" {
			t.Error("app is listed")
		}
		if p.Name == "hdf5" && !p.Root {
			t.Error("nothing needs hdf5, and it is no root")
		}
	}
}

func TestWhy(t *testing.T) {
	img := read(t, imageOf(t, spackFiles()))
	for _, name := range []string{"zlib", "zlib@1.3", "zlib/zzz", "/zzzz"} {
		answers, err := img.Why(name)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := WriteWhy(&out, answers); err != nil {
			t.Fatal(err)
		}
		if want := "app@1.0/aaaaaaa → hdf5@1.14/hhhhhhh → zlib@1.3/zzzzzzz"; !strings.Contains(out.String(), want) {
			t.Errorf("%s: lacks %q:\n%s", name, want, out.String())
		}
	}
	answers, err := img.Why("libc6")
	if err != nil || len(answers) != 1 || !slices.Equal(answers[0].Dependents, []string{"bash 5.2.15-2+b7"}) {
		t.Errorf("libc6: %+v, %v", answers, err)
	}
	if _, err := img.Why("zlib@9"); err == nil {
		t.Error("zlib@9 is found")
	}
}
