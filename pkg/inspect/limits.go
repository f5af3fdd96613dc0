package inspect

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/internal/quantity"
)

// LimitsFileName is where limits are looked for.
const LimitsFileName = ".pdibuild-ci.yaml"

// Limits are what an image must keep. The zero value allows everything.
type Limits struct {
	// HighestSize of all layers, HighestWaste of the bytes nobody sees, and
	// HighestDuplicates; less than 0 is no limit.
	HighestSize       int64
	HighestWaste      int64
	HighestDuplicates int64
	// HighestWastePercent of the content of all layers.
	HighestWastePercent float64
	HighestLayers       int64
	// ForbiddenPaths are patterns: * and ? within a name, ** any directories;
	// without a slash it is a name in any directory.
	ForbiddenPaths []string
	// Setuid says that files with the setuid or setgid bit are not allowed,
	// but those that fit SetuidAllowed.
	Setuid        bool
	SetuidAllowed []string
	// Secrets to look for in the contents; give them to Read as well.
	Secrets []SecretPattern
	// SecretsAllowed are patterns of paths where nothing is looked for.
	SecretsAllowed []string
}

// A Violation is a limit that an image does not keep.
type Violation struct {
	Limit   string `json:"limit"`
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
	Layer   int    `json:"layer,omitempty"`
}

// A LimitsError is a mistake in a file of limits.
type LimitsError struct {
	File         string
	Line, Column int
	Message      string
}

func (e *LimitsError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// DefaultLimits apply where there is no file: the image has no known keys or
// tokens, and little waste.
func DefaultLimits() *Limits {
	return &Limits{
		HighestSize: -1, HighestWaste: 20_000_000, HighestDuplicates: -1, HighestWastePercent: 10, HighestLayers: -1,
		Secrets: KnownSecrets(),
	}
}

// LimitKeys are the keys that the file may have.
func LimitKeys() []string {
	return []string{
		"highest_size", "highest_waste", "highest_waste_percent", "highest_duplicates", "highest_layers",
		"forbidden_paths", "setuid", "setuid_allowed", "secrets", "secret_patterns", "secrets_allowed",
	}
}

// ParseLimits reads a file of limits. A *LimitsError says where it is wrong;
// several are joined.
func ParseLimits(name string, data []byte) (*Limits, error) {
	p := &limitsParser{file: name}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, &LimitsError{name, yamlLine(err), 1, strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	l := &Limits{HighestSize: -1, HighestWaste: -1, HighestDuplicates: -1, HighestWastePercent: -1, HighestLayers: -1}
	if len(doc.Content) == 0 {
		return nil, &LimitsError{name, 1, 1, "sets no limit; keys are " + strings.Join(LimitKeys(), ", ")}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, p.at(root, "is not a list of 'key: value'")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if seen[key.Value] {
			p.fail(key, "%s is there twice", key.Value)
			continue
		}
		seen[key.Value] = true
		p.set(l, key, value)
	}
	return l, errors.Join(p.errs...)
}

// yamlLine is the line that an error of the YAML parser names.
func yamlLine(err error) int {
	_, rest, _ := strings.Cut(err.Error(), "line ")
	number, _, _ := strings.Cut(rest, ":")
	n, _ := strconv.Atoi(number) // 0 where it names none
	return max(n, 1)
}

type limitsParser struct {
	file string
	errs []error
}

func (p *limitsParser) at(n *yaml.Node, format string, args ...any) error {
	return &LimitsError{p.file, n.Line, n.Column, fmt.Sprintf(format, args...)}
}

func (p *limitsParser) fail(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, p.at(n, format, args...))
}

func (p *limitsParser) set(l *Limits, key, value *yaml.Node) {
	switch key.Value {
	case "highest_size":
		l.HighestSize = p.size(key, value)
	case "highest_waste":
		l.HighestWaste = p.size(key, value)
	case "highest_duplicates":
		l.HighestDuplicates = p.size(key, value)
	case "highest_waste_percent":
		number, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value.Value, "%")), 64)
		if err != nil || !(number >= 0 && number <= 100) {
			p.fail(value, "highest_waste_percent: %q is not a number from 0 to 100", value.Value)
		}
		l.HighestWastePercent = number
	case "highest_layers":
		number, err := strconv.ParseInt(value.Value, 10, 32)
		if err != nil || number < 1 {
			p.fail(value, "highest_layers: %q is not a number of layers", value.Value)
		}
		l.HighestLayers = number
	case "forbidden_paths":
		l.ForbiddenPaths = p.patterns(key, value)
	case "setuid":
		l.Setuid = p.word(key, value, "forbid", "allow") == "forbid"
	case "setuid_allowed":
		l.Setuid, l.SetuidAllowed = true, p.patterns(key, value)
	case "secrets":
		if p.word(key, value, "forbid", "allow") == "forbid" {
			l.Secrets = append(l.Secrets, KnownSecrets()...)
		}
	case "secret_patterns":
		l.Secrets = append(l.Secrets, p.secrets(value)...)
	case "secrets_allowed":
		l.SecretsAllowed = p.patterns(key, value)
	default:
		p.fail(key, "unknown key %q; keys are %s", key.Value, strings.Join(LimitKeys(), ", "))
	}
}

func (p *limitsParser) word(key, value *yaml.Node, words ...string) string {
	if !slices.Contains(words, value.Value) {
		p.fail(value, "%s: %q is not %s", key.Value, value.Value, strings.Join(words, " or "))
	}
	return value.Value
}

func (p *limitsParser) size(key, value *yaml.Node) int64 {
	n, err := quantity.Size(value.Value)
	if err != nil {
		p.fail(value, "%s: %v", key.Value, err)
		return -1
	}
	return n
}

func (p *limitsParser) patterns(key, value *yaml.Node) []string {
	if value.Kind != yaml.SequenceNode {
		p.fail(value, "%s: is not a list; write [%q]", key.Value, value.Value)
		return nil
	}
	var list []string
	for _, n := range value.Content {
		if _, err := path.Match(n.Value, ""); err != nil || n.Value == "" {
			p.fail(n, "%s: %q is not a pattern", key.Value, n.Value)
			continue
		}
		list = append(list, n.Value)
	}
	return list
}

// secrets reads a mapping of names to regular expressions.
func (p *limitsParser) secrets(value *yaml.Node) []SecretPattern {
	if value.Kind != yaml.MappingNode {
		p.fail(value, "secret_patterns: is not a list of 'name: regular expression'")
		return nil
	}
	var list []SecretPattern
	for i := 0; i+1 < len(value.Content); i += 2 {
		s, err := CompileSecret(value.Content[i].Value, value.Content[i+1].Value)
		if err != nil {
			p.fail(value.Content[i+1], "secret_patterns: %v", err)
			continue
		}
		list = append(list, s)
	}
	return list
}

// shownViolations of one limit are listed; the rest is counted.
const shownViolations = 20

// Check returns the limits that the image does not keep.
func (l *Limits) Check(img *Image) []Violation {
	c := &check{violations: []Violation{}, counts: map[string]int{}}
	w, size := img.Waste(1), int64(0)
	for _, layer := range img.Layers {
		size += layer.Size
	}
	c.bytes("highest_size", size, l.HighestSize, "the image has %s, allowed are %s")
	c.bytes("highest_waste", w.Hidden, l.HighestWaste, "%s are hidden by later layers, allowed are %s")
	c.bytes("highest_duplicates", w.Duplicate, l.HighestDuplicates, "%s are in files whose content is there twice, allowed are %s")
	if l.HighestWastePercent >= 0 && w.Percent > l.HighestWastePercent {
		c.add(Violation{Limit: "highest_waste_percent", Message: fmt.Sprintf("%.1f %% of the content is hidden by later layers, allowed are %g %%", w.Percent, l.HighestWastePercent)})
	}
	if n := int64(len(img.Layers)); l.HighestLayers >= 0 && n > l.HighestLayers {
		c.add(Violation{Limit: "highest_layers", Message: fmt.Sprintf("the image has %d layers, allowed are %d", n, l.HighestLayers)})
	}
	l.paths(img, c)
	for _, f := range img.Found {
		if !fits(l.SecretsAllowed, f.Path) {
			c.add(Violation{Limit: "secrets", Path: f.Path, Layer: f.Layer, Message: "looks as if it has a " + f.Pattern + img.hiddenBy(f)})
		}
	}
	for _, key := range LimitKeys() {
		if more := c.counts[key] - shownViolations; more > 0 {
			c.violations = append(c.violations, Violation{Limit: key, Message: fmt.Sprintf("and %d more", more)})
		}
	}
	return c.violations
}

// paths looks at every file of every layer: what a later layer hides is in
// the image all the same.
func (l *Limits) paths(img *Image, c *check) {
	if len(l.ForbiddenPaths) == 0 && !l.Setuid {
		return
	}
	t := img.table
	t.each(func(_ uint32, e *entry) {
		name := t.path(e.node)
		note := ""
		if e.died >= 0 {
			note = fmt.Sprintf(" (hidden by layer %d, but still in the image)", e.died+1)
		}
		for _, pattern := range l.ForbiddenPaths {
			if matches(pattern, name) {
				c.add(Violation{Limit: "forbidden_paths", Path: name, Layer: int(e.layer) + 1, Message: "fits " + pattern + note})
				break
			}
		}
		if l.Setuid && e.kind == tar.TypeReg && e.mode&0o6000 != 0 && e.died < 0 && !fits(l.SetuidAllowed, name) {
			c.add(Violation{Limit: "setuid", Path: name, Layer: int(e.layer) + 1, Message: fmt.Sprintf("has mode %04o", e.mode)})
		}
	})
}

func (img *Image) hiddenBy(f Finding) string {
	e := img.table.live(img.table.find(f.Path))
	if e == nil || int(e.layer)+1 != f.Layer {
		return " (a later layer hides it, but it is still in the image)"
	}
	return ""
}

func fits(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// A check collects violations.
type check struct {
	violations []Violation
	counts     map[string]int
}

func (c *check) add(v Violation) {
	if c.counts[v.Limit]++; c.counts[v.Limit] <= shownViolations {
		c.violations = append(c.violations, v)
	}
}

func (c *check) bytes(limit string, value, highest int64, format string) {
	if highest >= 0 && value > highest {
		c.add(Violation{Limit: limit, Message: fmt.Sprintf(format, SizeText(value), SizeText(highest))})
	}
}

// String is the violation in one line.
func (v Violation) String() string {
	text := v.Limit + ": "
	if v.Path != "" {
		text += shownPath(v.Path) + " in layer " + strconv.Itoa(v.Layer) + " "
	}
	return cmp.Or(text+shown(v.Message), v.Limit)
}
