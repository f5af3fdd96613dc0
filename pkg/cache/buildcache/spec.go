package buildcache

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A Spec is one concrete package, as Spack describes it.
type Spec struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Hash     string `json:"hash"`
	Platform string `json:"platform"`
	OS       string `json:"os"`
	Target   string `json:"target"`
	// Compiler is NAME@VERSION of what built it, "" if nothing was compiled.
	Compiler string `json:"compiler,omitempty"`
	// External is where the package is on the host, if Spack did not build it.
	External     string       `json:"external,omitempty"`
	Dependencies []Dependency `json:"dependencies,omitempty"`

	raw       json.RawMessage
	buildSpec string // hash of what a spliced package was built as
	virtuals  map[string][]string
}

// A Dependency is an edge to another package.
type Dependency struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	// Types are build, link, run or test.
	Types []string `json:"types"`
}

// builtAs is the type of the edge from a spliced package to what it was built
// as, whose archive Spack takes and changes.
const builtAs = "built-as"

// edges returns the dependencies, and what a spliced package was built as.
func (s *Spec) edges() []Dependency {
	if s.buildSpec == "" {
		return s.Dependencies
	}
	return append(slices.Clip(s.Dependencies), Dependency{Name: s.Name, Hash: s.buildSpec, Types: []string{builtAs}})
}

// Runtime says whether the dependency is needed to run what depends on it.
func (d Dependency) Runtime() bool {
	return slices.Contains(d.Types, "link") || slices.Contains(d.Types, "run")
}

// Arch returns PLATFORM-OS-TARGET.
func (s *Spec) Arch() string { return s.Platform + "-" + s.OS + "-" + s.Target }

// String returns NAME@VERSION/HASH with the hash shortened as Spack does.
func (s *Spec) String() string {
	return s.Name + "@" + s.Version + "/" + s.Hash[:min(len(s.Hash), 7)]
}

// Variants returns the package's variants, and its compiler flags, with their
// values: true or false, or one or several texts.
func (s *Spec) Variants() map[string][]string {
	var node struct {
		Parameters map[string]any `json:"parameters"`
	}
	_ = json.Unmarshal(s.raw, &node) // what is of another kind is no variant
	variants := map[string][]string{}
	for name, value := range node.Parameters {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, v := range values {
			variants[name] = append(variants[name], fmt.Sprint(v))
		}
	}
	return variants
}

// A document is a spec file: a package with all that it depends on.
type document struct {
	version int // of the format
	nodes   []*Spec
}

// root is the package that the document is about.
func (d *document) root() *Spec { return d.nodes[0] }

// The limits on what is read into memory.
const (
	maxManifest = 8 << 20
	maxDocument = 64 << 20
	maxIndex    = 2 << 30
)

var (
	hashRE = regexp.MustCompile(`^[a-z2-7]{32}$`)
	nameRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	signed = regexp.MustCompile(`(?s)^-----BEGIN PGP SIGNED MESSAGE-----\s+Hash:\s+[^\s]+\s+(.+)-----BEGIN PGP SIGNATURE-----`)
)

// withoutSignature returns what a clear-signed text is about, and whether it
// was signed. The signature is not checked.
func withoutSignature(data []byte) ([]byte, bool) {
	if m := signed.FindSubmatch(data); m != nil {
		return m[1], true
	}
	return data, false
}

// decodeDocument reads a spec file: JSON, perhaps gzipped, perhaps signed.
func decodeDocument(data []byte) (*document, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		var err error
		if data, err = gunzip(data, maxDocument); err != nil {
			return nil, err
		}
	}
	data, _ = withoutSignature(data)
	var file struct {
		Spec struct {
			Meta struct {
				Version int `json:"version"`
			} `json:"_meta"`
			Nodes []json.RawMessage `json:"nodes"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	if len(file.Spec.Nodes) == 0 {
		return nil, errors.New("read spec: there is no spec in it")
	}
	doc := &document{version: file.Spec.Meta.Version}
	byHash := map[string]*Spec{}
	for _, raw := range file.Spec.Nodes {
		node, err := decodeNode(raw)
		if err != nil {
			return nil, err
		}
		doc.nodes = append(doc.nodes, node)
		byHash[node.Hash] = node
	}
	for _, node := range doc.nodes {
		node.findCompiler(byHash)
	}
	return doc, nil
}

// gunzip never returns more than limit bytes.
func gunzip(data []byte, limit int64) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(zr, limit+1))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("unpack: more than %d bytes", limit)
	}
	return plain, nil
}

// A specNode is a node of a spec file, in the formats since Spack 0.17.
type specNode struct {
	Name    string `json:"name"`
	Version any    `json:"version"` // unset in abstract specs only
	Hash    string `json:"hash"`
	Arch    struct {
		Platform   string          `json:"platform"`
		PlatformOS string          `json:"platform_os"`
		Target     json.RawMessage `json:"target"`
	} `json:"arch"`
	Compiler *struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"compiler"`
	External *struct {
		Path string `json:"path"`
	} `json:"external"`
	Dependencies json.RawMessage `json:"dependencies"`
	BuildSpec    *struct {
		Hash string `json:"hash"`
	} `json:"build_spec"`
}

// decodeNode checks what file names and tags are made from; a cache is not
// trusted with paths.
func decodeNode(raw json.RawMessage) (*Spec, error) {
	var n specNode
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	version, _ := n.Version.(string)
	if !nameRE.MatchString(n.Name) || version == "" || !hashRE.MatchString(n.Hash) {
		return nil, fmt.Errorf("read spec: %q, version %q, hash %q is no concrete package", n.Name, version, n.Hash)
	}
	s := &Spec{
		Name: n.Name, Version: version, Hash: n.Hash, raw: raw,
		Platform: n.Arch.Platform, OS: n.Arch.PlatformOS, Target: targetName(n.Arch.Target),
	}
	if n.Compiler != nil {
		s.Compiler = n.Compiler.Name + "@" + n.Compiler.Version
	}
	if n.External != nil {
		if s.External = n.External.Path; s.External == "" {
			s.External = "module"
		}
	}
	if n.BuildSpec != nil {
		s.buildSpec = n.BuildSpec.Hash
	}
	return s, s.decodeDependencies(n.Dependencies)
}

// targetName reads "zen4" and {"name": "zen4", …}.
func targetName(raw json.RawMessage) string {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name
	}
	var long struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, &long) != nil {
		return ""
	}
	return long.Name
}

// decodeDependencies reads the list of the present formats. The oldest ones
// have a map from names.
func (s *Spec) decodeDependencies(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	type edge struct {
		Name       string   `json:"name"`
		Hash       string   `json:"hash"`
		Type       []string `json:"type"`
		Parameters struct {
			Deptypes []string `json:"deptypes"`
			Virtuals []string `json:"virtuals"`
		} `json:"parameters"`
	}
	var edges []edge
	if raw[0] == '{' {
		var named map[string]edge
		if err := json.Unmarshal(raw, &named); err != nil {
			return fmt.Errorf("read dependencies of %s: %w", s, err)
		}
		for name, e := range named {
			e.Name = name
			edges = append(edges, e)
		}
		slices.SortFunc(edges, func(a, b edge) int { return strings.Compare(a.Name, b.Name) })
	} else if err := json.Unmarshal(raw, &edges); err != nil {
		return fmt.Errorf("read dependencies of %s: %w", s, err)
	}
	s.virtuals = map[string][]string{}
	for _, e := range edges {
		s.Dependencies = append(s.Dependencies, Dependency{Name: e.Name, Hash: e.Hash, Types: append(e.Type, e.Parameters.Deptypes...)})
		s.virtuals[e.Hash] = e.Parameters.Virtuals
	}
	return nil
}

// findCompiler fills in Compiler, which since Spack 1.0 is a dependency that
// provides a language.
func (s *Spec) findCompiler(byHash map[string]*Spec) {
	for _, language := range []string{"c", "cxx", "fortran"} {
		for _, d := range s.Dependencies {
			if s.Compiler != "" || !slices.Contains(s.virtuals[d.Hash], language) {
				continue
			}
			if compiler := byHash[d.Hash]; compiler != nil {
				s.Compiler = compiler.Name + "@" + compiler.Version
			}
		}
	}
}
