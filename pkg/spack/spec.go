package spack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Spec is a concrete spec: one package as it is, or will be, installed.
type Spec struct {
	Name, Version string
	// Hash identifies the spec with all that it depends on.
	Hash string
	// Namespace is that of the package repository.
	Namespace string
	Arch      Arch
	// Compiler is the compiler of specs that Spack before 1.0 made. Others have
	// it among their dependencies: see Graph.Compilers.
	Compiler Compiler
	// Variants are the parameters, by name.
	Variants map[string]Variant
	// External says where a package is that Spack did not install.
	External *External
	// PackageHash identifies the recipe that it is built with.
	PackageHash  string
	Dependencies []Dependency
	// BuildSpec is the hash of the spec that the binaries were built as, if
	// they have been relinked to others since (spliced).
	BuildSpec string
}

// An Arch is what a package is built for.
type Arch struct{ Platform, OS, Target string }

// A Compiler is a compiler and the languages (c, cxx, fortran) it is used for.
type Compiler struct {
	Name, Version string
	Languages     []string
}

// A Variant is the value of a parameter: true or false (IsBool), or texts.
type Variant struct {
	IsBool, Bool bool
	Values       []string
}

// An External is a package of the system.
type External struct {
	// Path is the prefix, Modules the environment modules it needs.
	Path    string
	Modules []string
}

// A Dependency is an edge to another spec.
type Dependency struct {
	Name, Hash string
	Types      DepType
	// Virtuals are the interfaces it is used for, such as mpi or c.
	Virtuals []string
}

// A DepType is a set of kinds of dependencies.
type DepType uint8

// The kinds of dependencies. What runs in an image needs Link|Run.
const (
	Build DepType = 1 << iota
	Link
	Run
	Test
)

func depTypeOf(name string) (DepType, error) {
	switch name {
	case "build":
		return Build, nil
	case "link":
		return Link, nil
	case "run":
		return Run, nil
	case "test":
		return Test, nil
	}
	return 0, fmt.Errorf("%q is not a type of dependency", shorten(name))
}

// String lists the kinds, as Spack does.
func (t DepType) String() string {
	var names []string
	for _, name := range []string{"build", "link", "run", "test"} {
		if one, err := depTypeOf(name); err == nil && t&one != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// ShortHash is the hash as Spack's messages have it.
func (s *Spec) ShortHash() string { return s.Hash[:min(7, len(s.Hash))] }

// DevPath is the directory of sources that the spec is built from (develop:), or
// "".
func (s *Spec) DevPath() string {
	if v := s.Variants["dev_path"].Values; len(v) > 0 {
		return v[0]
	}
	return ""
}

// String is name@version/hash7.
func (s *Spec) String() string { return s.Name + "@" + s.Version + "/" + s.ShortHash() }

// specJSON is a node as Spack 0.18 and later write it.
type specJSON struct {
	Name         string                     `json:"name"`
	Version      string                     `json:"version"`
	Hash         string                     `json:"hash"`
	Namespace    string                     `json:"namespace"`
	Arch         archJSON                   `json:"arch"`
	Compiler     Compiler                   `json:"compiler"`
	Parameters   map[string]json.RawMessage `json:"parameters"`
	External     *externalJSON              `json:"external"`
	PackageHash  string                     `json:"package_hash"`
	Dependencies []dependencyJSON           `json:"dependencies"`
	BuildSpec    struct {
		Hash string `json:"hash"`
	} `json:"build_spec"`
	Annotations struct {
		Compiler string `json:"compiler"`
	} `json:"annotations"`
}

type archJSON struct {
	Platform string     `json:"platform"`
	OS       string     `json:"platform_os"`
	Target   nameOrText `json:"target"`
}

type externalJSON struct {
	Path   string          `json:"path"`
	Module json.RawMessage `json:"module"`
}

type dependencyJSON struct {
	Name       string   `json:"name"`
	Hash       string   `json:"hash"`
	Type       []string `json:"type"` // before Spack 0.20
	Parameters struct {
		Types    []string `json:"deptypes"`
		Virtuals []string `json:"virtuals"`
	} `json:"parameters"`
}

// A nameOrText is a text, or an object with a name: microarchitectures that
// Spack knows well are described.
type nameOrText string

// UnmarshalJSON takes either form.
func (t *nameOrText) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var o struct {
			Name string `json:"name"`
		}
		err := json.Unmarshal(data, &o)
		*t = nameOrText(o.Name)
		return wrapJSON(err)
	}
	return wrapJSON(json.Unmarshal(data, (*string)(t)))
}

// spec checks a node and makes a Spec of it. A node's key, where it has one,
// is its hash.
func (j *specJSON) spec(key string) (*Spec, error) {
	if j.Hash == "" {
		j.Hash = key
	}
	s := &Spec{
		Name: j.Name, Version: j.Version, Hash: j.Hash, Namespace: j.Namespace,
		Arch:     Arch{j.Arch.Platform, j.Arch.OS, string(j.Arch.Target)},
		Compiler: j.Compiler, PackageHash: j.PackageHash, BuildSpec: j.BuildSpec.Hash,
	}
	switch {
	case !validHash(s.Hash):
		return nil, fmt.Errorf("%q is not a hash", shorten(s.Hash))
	case key != "" && key != s.Hash:
		return nil, fmt.Errorf("the spec with the hash %s is kept as %s", s.Hash, shorten(key))
	case !validName(s.Name):
		return nil, fmt.Errorf("%s: %q is not the name of a package", s.Hash, shorten(s.Name))
	case !validVersion(s.Version):
		return nil, fmt.Errorf("%s: %q is not a version", s.Hash, shorten(s.Version))
	}
	if name, version, ok := strings.Cut(j.Annotations.Compiler, "@"); ok && s.Compiler.Name == "" {
		s.Compiler = Compiler{Name: name, Version: strings.TrimPrefix(version, "=")}
	}
	if e := j.External; e != nil {
		s.External = &External{Path: e.Path, Modules: textsOf(e.Module)}
	}
	if err := j.edges(s); err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	j.variants(s)
	return s, nil
}

func (j *specJSON) edges(s *Spec) error {
	for _, d := range j.Dependencies {
		if !validHash(d.Hash) || !validName(d.Name) {
			return fmt.Errorf("a dependency is called %q, hash %q", shorten(d.Name), shorten(d.Hash))
		}
		edge := Dependency{Name: d.Name, Hash: d.Hash, Virtuals: d.Parameters.Virtuals}
		for _, name := range slices.Concat(d.Type, d.Parameters.Types) {
			t, err := depTypeOf(name)
			if err != nil {
				return fmt.Errorf("dependency %s: %w", d.Name, err)
			}
			edge.Types |= t
		}
		s.Dependencies = append(s.Dependencies, edge)
	}
	return nil
}

func (j *specJSON) variants(s *Spec) {
	for name, raw := range j.Parameters {
		v := Variant{}
		switch {
		case bytes.Equal(raw, []byte("true")), bytes.Equal(raw, []byte("false")):
			v.IsBool, v.Bool = true, raw[0] == 't'
		default:
			if v.Values = textsOf(raw); len(v.Values) == 0 {
				continue // flags that are not set
			}
		}
		if s.Variants == nil {
			s.Variants = map[string]Variant{}
		}
		s.Variants[name] = v
	}
}

// textsOf reads a text, a number, or a list of them.
func textsOf(raw json.RawMessage) []string {
	var one string
	var many []json.RawMessage
	switch {
	case len(raw) == 0 || raw[0] == 'n' || raw[0] == '{' || bytes.Equal(raw, []byte("false")):
		return nil
	case json.Unmarshal(raw, &one) == nil:
		return []string{one}
	case json.Unmarshal(raw, &many) == nil:
		var texts []string
		for _, r := range many {
			if len(r) > 0 && r[0] != '[' { // lists are flat
				texts = append(texts, textsOf(r)...)
			}
		}
		return texts
	}
	return []string{string(raw)}
}

// validHash says that a text can be a hash: 32 lower-case letters and digits.
func validHash(s string) bool {
	return len(s) == 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// validName says that a text can be a package's name, and so part of a path.
func validName(s string) bool {
	return s != "" && s[0] != '.' && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
}

// validVersion says that a text can be a version. Git's names of branches,
// with slashes, can.
func validVersion(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// wrapJSON is for errors of the decoder within itself.
func wrapJSON(err error) error {
	if err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	return nil
}

// jsonError gives an error of the JSON decoder a place in the file.
func jsonError(name string, data []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	message := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.As(err, &syntax):
		offset, message = syntax.Offset, "is not JSON: "+syntax.Error()
	case errors.As(err, &kind):
		offset, message = kind.Offset, fmt.Sprintf("%s cannot be of type %s", cmp.Or(kind.Field, "the file"), kind.Value)
	}
	e := &Error{File: name, Message: message}
	if offset >= 0 && offset <= int64(len(data)) {
		before := data[:offset]
		e.Line = bytes.Count(before, []byte("\n")) + 1
		e.Column = max(1, len(before)-bytes.LastIndexByte(before, '\n')-1)
	}
	return e
}
