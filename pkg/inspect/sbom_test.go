package inspect

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

// billedImage has packages of both kinds, some with names and licences that a
// careless writer would stumble over.
func billedImage(t *testing.T) *Image {
	t.Helper()
	odd := file{"opt/software/odd-1-o/.spack/spec.json", specJSON("odd", "1 <&> \"x\"", hashOf("q")), 0}
	licence := file{"opt/software/odd-1-o/.spack/repos/spack_repo/builtin/packages/odd/package.py", "class Odd(Package):\n    license(\"who knows: \\u00e9 <b>\")\n", 0}
	status := file{"var/lib/dpkg/status", dpkgStatus + "\nPackage: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:12.2~rc+b1\nDepends: libc6, libc6 (>= 2), self, libstdc++6\n", 0}
	return read(t, imageOf(t, append(spackFiles(), status), []file{odd, licence, {"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n", 0}}))
}

// The bill in SPDX is one for SPDX's own library, and the same each time.
func TestSPDXIsValid(t *testing.T) {
	img := billedImage(t)
	var first, second bytes.Buffer
	if err := WriteSPDX(&first, img); err != nil {
		t.Fatal(err)
	}
	if err := WriteSPDX(&second, img); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the same image has two bills (%v)", err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		id := string(p.PackageSPDXIdentifier)
		if ids[id] || strings.ContainsFunc(id, notOfSPDXID) {
			t.Errorf("the id %q is there twice, or has a character that none may have", id)
		}
		ids[id] = true
	}
	if want := 1 + len(img.Spack) + len(img.Debian); len(doc.Packages) != want {
		t.Errorf("%d packages, want %d", len(doc.Packages), want)
	}
	for _, r := range doc.Relationships {
		if a, b := string(r.RefA.ElementRefID), string(r.RefB.ElementRefID); a != "DOCUMENT" && !ids[a] || !ids[b] {
			t.Errorf("%s %s %s is about nothing", a, r.Relationship, b)
		}
	}
	wantLicence(t, doc)
}

func notOfSPDXID(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", r)
}

// wantLicence fails the test unless a licence in the form of the standard is
// there and another one is not.
func wantLicence(t *testing.T, doc *spdx.Document) {
	t.Helper()
	for _, p := range doc.Packages {
		switch {
		case p.PackageName == "hdf5" && p.PackageLicenseDeclared != "BSD-3-Clause":
			t.Errorf("hdf5 has the licence %q", p.PackageLicenseDeclared)
		case p.PackageName == "odd" && p.PackageLicenseDeclared != "NOASSERTION":
			t.Errorf("odd has the licence %q", p.PackageLicenseDeclared)
		}
	}
}

// The bill in CycloneDX keeps to the schema that CycloneDX's own library has.
func TestCycloneDXIsValid(t *testing.T) {
	var bill bytes.Buffer
	if err := WriteCycloneDX(&bill, billedImage(t)); err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(bill.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	schema := cycloneDXSchema(t)
	if err := schema.Validate(instance); err != nil {
		t.Errorf("%v\n%s", err, bill.String())
	}
	// The judge is awake: it refuses what is none.
	instance.(map[string]any)["components"].([]any)[0].(map[string]any)["type"] = "nonsense"
	if schema.Validate(instance) == nil {
		t.Error("the schema allows everything")
	}
	var again cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(bill.Bytes()), cyclonedx.BOMFileFormatJSON).Decode(&again); err != nil {
		t.Error(err)
	}
}

// cycloneDXSchema is the schema of the version that is written, from the
// library's module.
func cycloneDXSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Skipf("SKIPPED: the schema is in a module, and go does not say where: %v", err)
	}
	schemas := filepath.Join(strings.TrimSpace(string(dir)), "schema")
	c := jsonschema.NewCompiler()
	// The schema names them by the place where they are published.
	for name, published := range map[string]string{"spdx.schema.json": "spdx.schema.json", "jsf-0.82.schemax.json": "jsf-0.82.schema.json"} {
		content, err := unmarshalFile(filepath.Join(schemas, name))
		if err == nil {
			err = c.AddResource("http://cyclonedx.org/schema/"+published, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile(filepath.Join(schemas, "bom-"+cycloneDXVersion.String()+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func unmarshalFile(name string) (any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return jsonschema.UnmarshalJSON(f)
}
