package spack

import (
	"fmt"
	"strconv"

	"github.com/pdidev/pdibuild/internal/spelling"

	"gopkg.in/yaml.v3"
)

// The names of an environment's files.
const (
	EnvironmentFileName = "spack.yaml"
	LockFileName        = "spack.lock"
)

// An Environment is what a spack.yaml says. What pdibuild acts on has fields;
// all else is there as it is written: see Section and Rewrite.
type Environment struct {
	// Specs is the list of what to install, in the order of the file.
	Specs []SpecEntry
	View  View
	// Unify is the concretizer's unify: "true", "false", "when_possible", or
	// "" if the file does not say.
	Unify       string
	InstallTree InstallTree
	Mirrors     []Mirror
	Repos       []Repo
	Include     []Include
	Develop     []Develop
	// Container is the container: section, or nil if there is none.
	Container *Container

	root *yaml.Node // the document
	file string
}

// A SpecEntry is an item of the list of specs: one spec (Spec), one matrix
// (Matrix), or a group of both (Specs).
type SpecEntry struct {
	// Spec is as written; "$name" stands for a list in definitions.
	Spec string
	// Matrix has the lists whose product makes specs, without those that
	// Exclude names.
	Matrix  [][]string
	Exclude []string
	// Group is the group's name, or "" for the default group. Needs are the
	// groups to install first. Implicit groups may be garbage-collected.
	Group    string
	Needs    []string
	Implicit bool
	Specs    []SpecEntry
	// Line is where the entry begins in the file.
	Line int
}

// A View is where Spack links what it installs. The zero value is Spack's
// default, a view inside of the environment's directory.
type View struct {
	Disabled bool
	// Path is the place of the default view.
	Path string
	// Named are the views of the long form.
	Named []NamedView
}

// A NamedView is one view of the long form of view:.
type NamedView struct {
	Name, Root      string
	Link            string // roots, run or all (the default)
	LinkType        string // symlink (the default), hardlink or copy
	Groups          []string
	Select, Exclude []string
}

// PadToMaximum is the padded length "true": as long as the system allows.
const PadToMaximum = -1

// An InstallTree is where Spack installs: config:install_tree.
type InstallTree struct {
	Root string
	// PaddedLength is the length that prefixes are padded to, so that binaries
	// can be relocated; 0 is no padding.
	PaddedLength int
}

// A Repo is a repository of packages.
type Repo struct {
	// Name is empty in the form that is a list.
	Name string
	// Path is a directory, Git a repository.
	Path, Git string
}

// A Develop is a package that is built from a directory of sources.
type Develop struct{ Name, Spec, Path string }

// An Include is a configuration file that is included. Path is its path or
// URL; the form with Git takes Paths out of a repository.
type Include struct {
	Path, SHA256, When string
	Optional           bool
	Git                string
	Branch, Tag        string
	Commit             string
	Paths              []string
}

// ParseEnvironment reads a spack.yaml. Name stands for the file in messages.
// All problems are reported at once, as Errors. What is checked is what the
// fields have and the whole container: section; Spack itself checks the rest,
// which differs from version to version.
func ParseEnvironment(name string, data []byte) (*Environment, error) {
	d := &decoder{file: name}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	e := &Environment{root: root, file: name}
	section, err := d.spackSection(root)
	if err != nil {
		return nil, err
	}
	d.environment(section, e)
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	return e, nil
}

// ParseScope reads a file of configuration that an environment includes: sections
// at the top, without specs. What is checked is what the fields have.
func ParseScope(name string, data []byte) (*Environment, error) {
	d := &decoder{file: name}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	e := &Environment{root: root, file: name}
	d.mapping(resolve(root.Content[0]), "", false, d.configuration(e))
	return e, d.errs.orNil()
}

// Section returns a section as it is written, such as packages or
// definitions, or nil if there is none. It must not be changed.
func (e *Environment) Section(name string) *yaml.Node {
	top := resolve(e.root.Content[0])
	section := top
	if i := lookup(top, "spack"); i >= 0 {
		section = resolve(top.Content[i])
	}
	if i := lookup(section, name); i >= 0 {
		return resolve(section.Content[i])
	}
	return nil
}

// spackSection finds the map that everything is in.
func (d *decoder) spackSection(root *yaml.Node) (*yaml.Node, error) {
	top := resolve(root.Content[0])
	var section *yaml.Node
	d.mapping(top, "the file", true, map[string]reader{
		"spack": func(n *yaml.Node, _ string) { section = n },
	})
	if section == nil && len(d.errs) == 0 {
		d.fail(top, "the file", "has no key \"spack\"; an environment begins with 'spack:'")
	}
	return section, d.errs.orNil()
}

func (d *decoder) environment(n *yaml.Node, e *Environment) {
	readers := d.configuration(e)
	readers["specs"] = func(n *yaml.Node, path string) { d.specs(n, path, &e.Specs) }
	readers["view"] = func(n *yaml.Node, path string) { d.view(n, path, &e.View) }
	readers["concretizer"] = func(n *yaml.Node, path string) { d.concretizer(n, path, e) }
	readers["config"] = func(n *yaml.Node, path string) { d.config(n, path, e) }
	readers["container"] = func(n *yaml.Node, path string) { e.Container = d.container(n, path) }
	d.mapping(n, "", false, readers)
	d.misspeltContainer(n)
}

// configuration reads the sections that name other files, which any file of
// configuration may have.
func (d *decoder) configuration(e *Environment) map[string]reader {
	return map[string]reader{
		"mirrors": func(n *yaml.Node, path string) { d.mirrors(n, path, &e.Mirrors) },
		"repos":   func(n *yaml.Node, path string) { d.repos(n, path, &e.Repos) },
		"include": func(n *yaml.Node, path string) { d.includes(n, path, &e.Include) },
		"develop": func(n *yaml.Node, path string) { d.develop(n, path, &e.Develop) },
	}
}

// misspeltContainer reports a key that looks like container:, which would be
// silently without effect.
func (d *decoder) misspeltContainer(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := sectionName(n.Content[i].Value)
		if key != "container" && spelling.Closest(key, []string{"container"}) != "" {
			d.suggest(n.Content[i], "spack", "container", fmt.Sprintf("has no key %q", key))
		}
	}
}

func (d *decoder) specs(n *yaml.Node, path string, to *[]SpecEntry) {
	d.eachItem(n, path, func(n *yaml.Node, path string) {
		if isNull(n) {
			return
		}
		entry := SpecEntry{Line: n.Line}
		if n.Kind == yaml.MappingNode {
			d.specMap(n, path, &entry)
		} else {
			d.text(&entry.Spec)(n, path)
		}
		*to = append(*to, entry)
	})
}

// specMap reads a matrix or a group. Keys that a newer Spack may have are left
// to it.
func (d *decoder) specMap(n *yaml.Node, path string, entry *SpecEntry) {
	explicit := true
	d.mapping(n, path, false, map[string]reader{
		"group":    d.text(&entry.Group),
		"needs":    d.texts(&entry.Needs),
		"explicit": d.flag(&explicit),
		"exclude":  d.texts(&entry.Exclude),
		"specs":    func(n *yaml.Node, path string) { d.specs(n, path, &entry.Specs) },
		"matrix": func(n *yaml.Node, path string) {
			d.eachItem(n, path, func(n *yaml.Node, path string) {
				var row []string
				d.texts(&row)(n, path)
				entry.Matrix = append(entry.Matrix, row)
			})
		},
	})
	entry.Implicit = !explicit
}

func (d *decoder) view(n *yaml.Node, path string, v *View) {
	switch {
	case n.Kind == yaml.MappingNode:
		d.eachPair(n, path, func(key, n *yaml.Node, path string) {
			view := NamedView{Name: key.Value}
			d.mapping(n, path, false, map[string]reader{
				"root":      d.text(&view.Root),
				"link":      d.text(&view.Link),
				"link_type": d.text(&view.LinkType),
				"group":     d.textOrTexts(&view.Groups),
				"select":    d.texts(&view.Select),
				"exclude":   d.texts(&view.Exclude),
			})
			v.Named = append(v.Named, view)
		})
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool":
		on := true
		d.flag(&on)(n, path)
		v.Disabled = !on
	default:
		d.text(&v.Path)(n, path)
	}
}

func (d *decoder) textOrTexts(to *[]string) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			d.texts(to)(n, path)
			return
		}
		var s string
		d.text(&s)(n, path)
		*to = []string{s}
	}
}

func (d *decoder) concretizer(n *yaml.Node, path string, e *Environment) {
	d.mapping(n, path, false, map[string]reader{
		"unify": func(n *yaml.Node, path string) {
			if n.Kind != yaml.ScalarNode {
				d.fail(n, path, "must be true, false or when_possible, not %s", kindName(n))
				return
			}
			e.Unify = n.Value
		},
	})
}

func (d *decoder) config(n *yaml.Node, path string, e *Environment) {
	d.mapping(n, path, false, map[string]reader{
		"install_tree": func(n *yaml.Node, path string) {
			if n.Kind == yaml.ScalarNode && !isNull(n) { // before Spack 0.16
				d.text(&e.InstallTree.Root)(n, path)
				return
			}
			d.mapping(n, path, false, map[string]reader{
				"root":          d.text(&e.InstallTree.Root),
				"padded_length": d.paddedLength(&e.InstallTree.PaddedLength),
			})
		},
	})
}

func (d *decoder) paddedLength(to *int) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
			var padded bool
			d.flag(&padded)(n, path)
			if padded {
				*to = PadToMaximum
			}
			return
		}
		length, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || length < 0 {
			d.fail(n, path, "must be a length or true, not %s", kindName(n))
			return
		}
		*to = length
	}
}

// repos reads the map from names to repositories, and the older list of
// directories.
func (d *decoder) repos(n *yaml.Node, path string, to *[]Repo) {
	if n.Kind == yaml.SequenceNode {
		d.eachItem(n, path, func(n *yaml.Node, path string) {
			var r Repo
			d.text(&r.Path)(n, path)
			*to = append(*to, r)
		})
		return
	}
	d.eachPair(n, path, func(key, n *yaml.Node, path string) {
		r := Repo{Name: sectionName(key.Value)}
		if n.Kind == yaml.MappingNode {
			d.mapping(n, path, false, map[string]reader{"git": d.text(&r.Git), "destination": d.text(&r.Path)})
		} else {
			d.text(&r.Path)(n, path)
		}
		*to = append(*to, r)
	})
}

// develop reads the map from packages to their sources, which are in a directory
// of the package's name unless the file names another.
func (d *decoder) develop(n *yaml.Node, path string, to *[]Develop) {
	d.eachPair(n, path, func(key, n *yaml.Node, path string) {
		dev := Develop{Name: sectionName(key.Value)}
		dev.Path = dev.Name
		d.mapping(n, path, false, map[string]reader{"spec": d.text(&dev.Spec), "path": d.text(&dev.Path)})
		*to = append(*to, dev)
	})
}

func (d *decoder) includes(n *yaml.Node, path string, to *[]Include) {
	d.eachItem(n, path, func(n *yaml.Node, path string) {
		var i Include
		if n.Kind == yaml.MappingNode {
			d.mapping(n, path, false, map[string]reader{
				"path": d.text(&i.Path), "sha256": d.text(&i.SHA256), "when": d.text(&i.When), "optional": d.flag(&i.Optional),
				"git": d.text(&i.Git), "branch": d.text(&i.Branch), "tag": d.text(&i.Tag), "commit": d.text(&i.Commit),
				"paths": d.texts(&i.Paths),
			})
		} else {
			d.text(&i.Path)(n, path)
		}
		*to = append(*to, i)
	})
}
