package inspect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// A part is one package as both forms of a bill of materials have it.
type part struct {
	id, name, version string
	purl              string
	license           string
	// about is what more there is to say: key, value.
	about [][2]string
	// needs are the ids of what it needs.
	needs []string
}

// parts are the packages of an image, in an order that depends on them alone.
func (img *Image) parts() []part {
	var list []part
	hashes := map[string]string{}
	for _, p := range img.Spack {
		hashes[p.Hash] = elementID("Spack-" + p.Name + "-" + p.Hash)
	}
	for _, p := range img.Spack {
		x := part{
			id: hashes[p.Hash], name: p.Name, version: p.Version, license: licenseExpression(p.License),
			purl:  fmt.Sprintf("pkg:generic/%s@%s?spack_hash=%s", purlText(strings.ToLower(p.Name)), purlText(p.Version), p.Hash),
			about: [][2]string{{"spack:hash", p.Hash}, {"spack:arch", p.Arch}, {"spack:variants", p.Variants}, {"spack:prefix", p.Prefix}},
		}
		if p.External {
			x.about = append(x.about, [2]string{"spack:external", "true"})
		}
		for _, need := range p.Needs {
			x.needs = append(x.needs, hashes[need])
		}
		list = append(list, x)
	}
	return append(list, img.debianParts()...)
}

func (img *Image) debianParts() []part {
	distribution := img.Release["ID"]
	if distribution == "" {
		distribution = "debian"
	}
	distro := ""
	if version := img.Release["VERSION_ID"]; version != "" {
		distro = "&distro=" + purlText(distribution+"-"+version)
	}
	names := map[string]string{}
	for _, p := range img.Debian {
		names[p.Name] = elementID("Debian-" + p.Name + "-" + p.Architecture)
	}
	var list []part
	for _, p := range img.Debian {
		x := part{
			id: elementID("Debian-" + p.Name + "-" + p.Architecture), name: p.Name, version: p.Version,
			purl: fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s%s", purlText(distribution), purlText(p.Name), purlText(p.Version), purlText(p.Architecture), distro),
		}
		if p.Source != "" {
			x.about = append(x.about, [2]string{"debian:source", p.Source})
		}
		for _, need := range p.Needs {
			if id := names[need]; id != "" && id != x.id {
				x.needs = append(x.needs, id)
			}
		}
		list = append(list, x)
	}
	return list
}

// purlText encodes a part of a package URL.
func purlText(s string) string {
	return strings.NewReplacer("+", "%20", "%3A", ":").Replace(url.QueryEscape(s))
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9-]`)

// elementID makes an SPDX identifier of a text; different texts stay so.
func elementID(s string) string {
	return notInID.ReplaceAllStringFunc(s, func(c string) string { return "." + hex.EncodeToString([]byte(c)) + "." })
}

var expression = regexp.MustCompile(`^\(*[A-Za-z0-9.+-]+\)*( (AND|OR|WITH) \(*[A-Za-z0-9.+-]+\)*)*$`)

// licenseExpression is a text that has the form of an SPDX expression, or "".
func licenseExpression(s string) string {
	if expression.MatchString(s) && strings.Count(s, "(") == strings.Count(s, ")") {
		return s
	}
	return ""
}

// madeAt is the time of the image, not of the bill: the same image has the
// same bill.
func (img *Image) madeAt() string {
	if img.Config.Created == nil {
		return time.Unix(0, 0).UTC().Format(time.RFC3339)
	}
	return img.Config.Created.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// title is what the image calls itself; its tags may change.
func (img *Image) title() string {
	if title := img.Config.Config.Labels["org.opencontainers.image.title"]; title != "" {
		return title
	}
	return "container image"
}

// WriteSPDX writes a bill of materials in SPDX 2.3, as JSON. The same image
// gives the same bytes.
func WriteSPDX(w io.Writer, img *Image) error {
	const none = "NOASSERTION"
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: img.title(), DocumentNamespace: "https://github.com/pdidev/pdibuild/spdx/" + strings.ReplaceAll(img.ID, ":", "-"),
		CreationInfo: &v2_3.CreationInfo{Created: img.madeAt(), Creators: []common.Creator{{CreatorType: "Tool", Creator: "pdibuild"}}},
	}
	relate := func(a, kind, b string) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{RefA: common.MakeDocElementID("", a), Relationship: kind, RefB: common.MakeDocElementID("", b)})
	}
	hash := strings.TrimPrefix(img.ID, "sha256:")
	doc.Packages = append(doc.Packages, &v2_3.Package{
		PackageName: img.title(), PackageSPDXIdentifier: "Image", PackageVersion: img.ID, PackageDownloadLocation: none, PrimaryPackagePurpose: "CONTAINER",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: hash}},
		PackageComment:   "The checksum is that of the image's configuration.",
	})
	relate("DOCUMENT", common.TypeRelationshipDescribe, "Image")
	for _, p := range img.parts() {
		pkg := &v2_3.Package{
			PackageName: p.name, PackageSPDXIdentifier: common.ElementID(p.id), PackageVersion: p.version, PackageDownloadLocation: none,
			PackageLicenseConcluded: none, PackageLicenseDeclared: none, PackageCopyrightText: none,
			PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: p.purl}},
		}
		if p.license != "" {
			pkg.PackageLicenseDeclared = p.license
		}
		var about []string
		for _, kv := range p.about {
			about = append(about, kv[0]+"="+kv[1])
		}
		pkg.PackageComment = strings.Join(about, "\n")
		doc.Packages = append(doc.Packages, pkg)
		relate("Image", common.TypeRelationshipContains, p.id)
		for _, need := range p.needs {
			relate(p.id, common.TypeRelationshipDependsOn, need)
		}
	}
	return json.Write(doc, w, json.Indent("  "), json.EscapeHTML(false))
}

// cycloneDXVersion is one that most readers know.
const cycloneDXVersion = cyclonedx.SpecVersion1_6

// WriteCycloneDX writes a bill of materials in CycloneDX 1.6, as JSON. The same
// image gives the same bytes.
func WriteCycloneDX(w io.Writer, img *Image) error {
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serialNumber(img.ID)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: img.madeAt(),
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "pdibuild"}}},
		Component: &cyclonedx.Component{
			BOMRef: "Image", Type: cyclonedx.ComponentTypeContainer, Name: img.title(), Version: img.ID,
		},
	}
	components, dependencies := []cyclonedx.Component{}, []cyclonedx.Dependency{}
	for _, p := range img.parts() {
		c := cyclonedx.Component{BOMRef: p.id, Type: cyclonedx.ComponentTypeLibrary, Name: p.name, Version: p.version, PackageURL: p.purl}
		if p.license != "" {
			c.Licenses = &cyclonedx.Licenses{{Expression: p.license}}
		}
		var properties []cyclonedx.Property
		for _, kv := range p.about {
			properties = append(properties, cyclonedx.Property{Name: kv[0], Value: kv[1]})
		}
		if properties != nil {
			c.Properties = &properties
		}
		components = append(components, c)
		needs := append([]string{}, p.needs...)
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: p.id, Dependencies: &needs})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cycloneDXVersion)
}

// serialNumber is a UUID (version 8: of our own making) of the image.
func serialNumber(id string) string {
	sum := sha256.Sum256([]byte("pdibuild sbom " + id))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
