package spack

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// A Container is the container: section, with Spack's defaults for what it
// does not say.
type Container struct {
	// Format is docker (the default) or singularity.
	Format string
	Images Images
	// Strip removes symbols from what is installed; the default is true.
	Strip      bool
	OSPackages OSPackages
	// Labels of the image, in the order of the file.
	Labels []Label
	// ExtraInstructions are Containerfile lines for the end of the stages.
	// Spack has not had them since 0.21.
	ExtraInstructions ExtraInstructions
	// Template is a file for Spack's template engine.
	Template string
	// Depfile installs with make, by a file that Spack generates.
	Depfile     bool
	Singularity Singularity
}

// Images are the images to start from: either OS and Spack, or Build and
// Final.
type Images struct {
	OS           string // such as ubuntu:24.04
	Spack        Source
	Build, Final string

	at *Error // where it says so; nil for the default
}

// A Source is the Spack to use: a Version, which is a tag of the image with
// Spack or a branch, or a Ref of the repository at URL.
type Source struct {
	Version, URL, Ref string
	// ResolveSHA and Verify are checks of Ref when the Containerfile is made.
	ResolveSHA, Verify bool
}

// OSPackages are packages of the distribution.
type OSPackages struct {
	// Command is the package manager. It must be given for images of one's own.
	Command string
	// Update upgrades the distribution first; the default is true.
	Update       bool
	Build, Final []string
}

// A Label is a name and a value.
type Label struct{ Name, Value string }

// ExtraInstructions are lines for the two stages.
type ExtraInstructions struct{ Build, Final string }

// Singularity are the sections of a definition file that have no counterpart
// in a Containerfile.
type Singularity struct{ Runscript, Startscript, Test, Help string }

// DefaultContainer is what an environment without a container: section gets.
func DefaultContainer() *Container {
	return &Container{
		Format:     "docker",
		Images:     Images{OS: "ubuntu:22.04", Spack: Source{Version: "develop"}},
		Strip:      true,
		OSPackages: OSPackages{Update: true},
	}
}

func (d *decoder) container(n *yaml.Node, path string) *Container {
	c := DefaultContainer()
	d.mapping(n, path, true, map[string]reader{
		"format": d.oneOf(&c.Format, "docker", "singularity"),
		"images": func(n *yaml.Node, path string) { d.images(n, path, &c.Images) },
		"strip":  d.flag(&c.Strip),
		"os_packages": func(n *yaml.Node, path string) {
			d.mapping(n, path, true, map[string]reader{
				"command": d.oneOf(&c.OSPackages.Command, PackageManagers()...),
				"update":  d.flag(&c.OSPackages.Update),
				"build":   d.packageNames(&c.OSPackages.Build),
				"final":   d.packageNames(&c.OSPackages.Final),
			})
		},
		"labels":   d.labels(&c.Labels),
		"template": d.textOrNothing(&c.Template),
		"depfile":  d.flag(&c.Depfile),
		"docker": func(n *yaml.Node, path string) {
			d.mapping(n, path, true, nil)
		},
		"singularity": func(n *yaml.Node, path string) {
			s := &c.Singularity
			d.mapping(n, path, true, map[string]reader{
				"runscript": d.text(&s.Runscript), "startscript": d.text(&s.Startscript),
				"test": d.text(&s.Test), "help": d.text(&s.Help),
			})
		},
		"extra_instructions": func(n *yaml.Node, path string) {
			e := &c.ExtraInstructions
			d.mapping(n, path, true, map[string]reader{"build": d.text(&e.Build), "final": d.text(&e.Final)})
		},
	})
	return c
}

// images reads {os, spack} or {build, final}.
func (d *decoder) images(n *yaml.Node, path string, to *Images) {
	*to = Images{at: d.at(n, "")}
	to.at.Path = path
	before := len(d.errs)
	d.mapping(n, path, true, map[string]reader{
		"os":    d.text(&to.OS),
		"spack": func(n *yaml.Node, path string) { d.source(n, path, &to.Spack) },
		"build": d.text(&to.Build),
		"final": d.text(&to.Final),
	})
	if len(d.errs) > before {
		return
	}
	custom, named := lookup(n, "build") >= 0 || lookup(n, "final") >= 0, lookup(n, "os") >= 0 || lookup(n, "spack") >= 0
	switch {
	case custom && named:
		d.fail(n, path, "has either os and spack, or build and final, not both")
	case custom && (to.Build == "" || to.Final == ""):
		d.fail(n, path, "needs both build and final")
	case !custom && (to.OS == "" || to.Spack == Source{}):
		d.fail(n, path, "needs both os and spack, or both build and final")
	}
}

// source reads a version, or a map that describes a repository.
func (d *decoder) source(n *yaml.Node, path string, to *Source) {
	if n.Kind != yaml.MappingNode {
		d.text(&to.Version)(n, path)
		return
	}
	*to = Source{URL: "https://github.com/spack/spack.git", Ref: "develop"}
	d.mapping(n, path, true, map[string]reader{
		"url": d.text(&to.URL), "ref": d.text(&to.Ref),
		"resolve_sha": d.flag(&to.ResolveSHA), "verify": d.flag(&to.Verify),
	})
}

func (d *decoder) labels(to *[]Label) reader {
	return func(n *yaml.Node, path string) {
		d.eachPair(n, path, func(key, n *yaml.Node, path string) {
			if n.Kind != yaml.ScalarNode || isNull(n) {
				d.fail(n, path, "must be a text, not %s", kindName(n))
				return
			}
			*to = append(*to, Label{key.Value, n.Value})
		})
	}
}

// packageNames reads names that end up as words of a command.
func (d *decoder) packageNames(to *[]string) reader {
	return func(n *yaml.Node, path string) {
		d.texts(to)(n, path)
		for _, name := range *to {
			if name == "" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, notInPackageName) {
				d.fail(n, path, "%q is not the name of a package", name)
			}
		}
	}
}

// notInPackageName reports what no name (or name=version, name:arch, or a
// pattern of names) has.
func notInPackageName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+-._=:~@/*^", r)
}
