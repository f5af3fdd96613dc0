package spackinstall

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// An Installation is the result of a spack step, for the steps that build on it.
// It is kept as Data of the step's record.
type Installation struct {
	// Dir has the environment's spack.yaml and spack.lock, Views are the
	// views' roots; all are paths in the image.
	Dir   string   `json:"dir"`
	Views []string `json:"views,omitempty"`
	// ViewText identifies what included scopes say about views.
	ViewText string `json:"viewText,omitempty"`
	// copiedViews are those of Views that have the packages' files, no links.
	copiedViews []string
	// Trees are install trees beside the usual one: where the environment
	// wants its packages, and upstreams.
	Trees []string `json:"trees,omitempty"`
	// Text identifies the contents of these two files.
	Text string `json:"text"`
	// Packages are those needed to run, dependencies first.
	Packages []Package `json:"packages"`
	// Externals are packages of the distribution that they need.
	Externals []Package `json:"externals,omitempty"`
	// Activation is what makes the environment's programs usable.
	Activation spack.Activation `json:"activation,omitempty"`
	// Modules are module files of the packages, and ModuleText identifies
	// their contents.
	Modules    []string `json:"modules,omitempty"`
	ModuleText string   `json:"moduleText,omitempty"`
	// Variant is what else the packages' content depends on, such as
	// whether they are stripped.
	Variant string `json:"variant,omitempty"`
}

// ActivateScript is the path of the script that activates the environment.
func (in *Installation) ActivateScript() string { return path.Join(in.Dir, "activate.sh") }

// Installed reports whether a path leads to a package that Spack has installed,
// not one of the system.
func (in *Installation) Installed(name string) bool {
	return slices.ContainsFunc(append([]string{InstallRoot}, in.Trees...), func(tree string) bool {
		return strings.HasPrefix(name, tree+"/")
	})
}

// A Package is a package of an installation.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	Prefix  string `json:"prefix,omitempty"`
	// License as Spack knows it, if it does.
	License string `json:"license,omitempty"`
	// Build identifies the contents of a package whose hash does not: one that
	// is developed, or depends on one.
	Build string `json:"build,omitempty"`

	developed bool
}

// SetBuild sets what identifies the contents of developed packages.
func (in *Installation) SetBuild(id string) {
	for i := range in.Packages {
		if p := &in.Packages[i]; p.developed {
			p.Build = id
		}
	}
}

// String is NAME@VERSION.
func (p Package) String() string { return p.Name + "@" + p.Version }

// Key identifies everything that an environment step takes over.
func (in *Installation) Key() string { return stepkey.Of("installation", stepkey.JSON(in)) }

// ParseInstallation reads the Data of a spack step's record.
func ParseInstallation(data json.RawMessage) (*Installation, error) {
	var in Installation
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("read what the spack step has noted: %w", err)
	}
	if in.Dir == "" {
		return nil, errors.New("read what the spack step has noted: it is not complete")
	}
	return &in, nil
}
