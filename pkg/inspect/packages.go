package inspect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// A SpackPackage is a package that Spack has installed in the image, or an
// external one that such a package uses.
type SpackPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	// Arch is platform-os-target.
	Arch string `json:"arch"`
	// Variants as Spack writes them.
	Variants string `json:"variants,omitempty"`
	// Prefix is its directory; External says that it is the system's.
	Prefix   string `json:"prefix"`
	External bool   `json:"external,omitempty"`
	// License as its recipe says it, if the recipe is in the image.
	License string `json:"license,omitempty"`
	// Layer that has the prefix, from 1; Size of the files there.
	Layer int   `json:"layer,omitempty"`
	Size  int64 `json:"size"`
	// Root says that the environment asks for it, or, where no lock file says
	// so, that nothing in the image needs it.
	Root bool `json:"root,omitempty"`
	// Needs are the hashes of what it links to or runs.
	Needs []string `json:"needs,omitempty"`

	node uint32
}

// String is name@version/hash7.
func (p *SpackPackage) String() string {
	return p.Name + "@" + p.Version + "/" + p.Hash[:min(7, len(p.Hash))]
}

// A DebianPackage is one of the distribution's packages, of dpkg's list.
type DebianPackage struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	// Source is the source package.
	Source string `json:"source,omitempty"`
	// Size is what the package says that it takes when installed.
	Size int64 `json:"size"`
	// Needs are the names in its Depends and Pre-Depends, alternatives
	// included.
	Needs []string `json:"needs,omitempty"`
}

// Files that are looked into, by the form of their paths.
var (
	specPath    = regexp.MustCompile(`^(.+)/\.spack/spec\.json$`)
	recipePath  = regexp.MustCompile(`^(.+)/\.spack/repos/.+/packages/([A-Za-z0-9_-]+)/package\.py$`)
	statusPath  = regexp.MustCompile(`^/var/lib/dpkg/(status|status\.d/[^/]+)$`)
	lockPath    = regexp.MustCompile(`/spack\.lock$`)
	releasePath = regexp.MustCompile(`^/(etc|usr/lib)/os-release$`)
	// sbomPath is Spack's own bill, licensesPath what pdibuild says of all
	// packages.
	sbomPath     = regexp.MustCompile(`^(.+)/\.spack/sbom/spdx-2\.3\.json$`)
	licensesPath = regexp.MustCompile(`/licenses\.json$`)
)

// contents is what has been read in files, by their nodes: a later layer may
// replace or remove them.
type contents struct {
	specs    map[uint32]*spack.SpecFile
	external map[string]*spack.Spec // all external specs that were mentioned
	licenses map[uint32]string
	bills    map[uint32][]byte            // of Spack, one for each package
	listed   map[uint32]map[string]string // licences by hash
	status   map[uint32][]*DebianPackage
	locks    map[uint32][]string
	releases map[uint32]map[string]string
}

func newContents() *contents {
	return &contents{
		specs: map[uint32]*spack.SpecFile{}, external: map[string]*spack.Spec{}, licenses: map[uint32]string{},
		bills: map[uint32][]byte{}, listed: map[uint32]map[string]string{},
		status: map[uint32][]*DebianPackage{}, locks: map[uint32][]string{}, releases: map[uint32]map[string]string{},
	}
}

// wants says that a file is looked into.
func (c *contents) wants(name string) bool {
	switch path.Base(name) {
	case "spec.json", "package.py", "spdx-2.3.json":
		return strings.Contains(name, "/.spack/")
	case "spack.lock", "licenses.json", "status", "os-release":
		return true
	}
	return statusPath.MatchString(name)
}

// take looks into a file. What cannot be understood is an ordinary file.
func (c *contents) take(n uint32, name string, data []byte) {
	switch {
	case specPath.MatchString(name):
		f, err := spack.ParseSpecFile(name, data)
		delete(c.specs, n)
		if err != nil {
			return
		}
		for _, s := range f.Specs {
			if s.External != nil {
				c.external[s.Hash] = s
			}
		}
		f.Specs = nil // each package has its own file
		c.specs[n] = f
	case recipePath.MatchString(name):
		delete(c.licenses, n)
		if license := spack.RecipeLicense(data); license != "" {
			c.licenses[n] = license
		}
	case sbomPath.MatchString(name):
		if delete(c.bills, n); len(data) <= 1<<20 { // Spack's have some kilobytes
			c.bills[n] = bytes.Clone(data)
		}
	case licensesPath.MatchString(name):
		delete(c.listed, n)
		listed := map[string]string{}
		if json.Unmarshal(data, &listed) == nil { // another program's file of that name is none
			c.listed[n] = listed
		}
	case statusPath.MatchString(name):
		c.status[n] = parseStatus(data)
	case lockPath.MatchString(name):
		delete(c.locks, n)
		if lock, err := spack.ParseLock(name, data); err == nil {
			for _, r := range lock.Roots {
				c.locks[n] = append(c.locks[n], r.Hash)
			}
		}
	case releasePath.MatchString(name):
		c.releases[n] = parseRelease(data)
	}
}

// finish gives the image what is there in the end.
func (c *contents) finish(img *Image) {
	t := img.table
	img.Roots = map[string]bool{}
	for n, roots := range c.locks {
		if t.live(n) == nil {
			continue
		}
		for _, hash := range roots {
			img.Roots[hash] = true
		}
	}
	byName := map[string]*DebianPackage{}
	for n, list := range c.status {
		if t.live(n) == nil {
			continue
		}
		for _, p := range list {
			byName[p.Name+":"+p.Architecture] = p
		}
	}
	for _, p := range byName {
		img.Debian = append(img.Debian, p)
	}
	slices.SortFunc(img.Debian, func(a, b *DebianPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture))
	})
	for _, name := range []string{"/usr/lib/os-release", "/etc/os-release"} {
		if n := t.find(name); n != noNode && t.live(n) != nil && c.releases[n] != nil {
			img.Release = c.releases[n]
		}
	}
	c.finishSpack(img)
}

func (c *contents) finishSpack(img *Image) {
	t := img.table
	licenses := map[string]string{} // by prefix and name
	for n, license := range c.licenses {
		if t.live(n) != nil {
			m := recipePath.FindStringSubmatch(t.path(n))
			licenses[m[1]+"\n"+strings.ReplaceAll(m[2], "_", "-")] = license
		}
	}
	bills, listed := spackBills{}, map[string]string{}
	for n, bill := range c.bills {
		if t.live(n) != nil {
			bills[sbomPath.FindStringSubmatch(t.path(n))[1]] = bill
		}
	}
	for n, list := range c.listed {
		if t.live(n) != nil {
			maps.Copy(listed, list)
		}
	}
	byHash := map[string]*SpackPackage{}
	for n, f := range c.specs {
		e := t.live(n)
		if e == nil {
			continue
		}
		p := packageOf(f.Spec)
		p.Prefix = path.Dir(path.Dir(t.path(n)))
		p.node = t.find(p.Prefix)
		p.Layer = int(e.layer) + 1
		p.License = cmp.Or(bills.license(p), licenses[p.Prefix+"\n"+strings.TrimLeft(p.Name, "_")], listed[p.Hash])
		if other := byHash[p.Hash]; other == nil || p.Prefix < other.Prefix {
			byHash[p.Hash] = p
		}
	}
	for _, p := range byHash {
		for _, hash := range p.Needs {
			if s := c.external[hash]; s != nil && byHash[hash] == nil {
				e := packageOf(s)
				e.External, e.Prefix, e.node = true, s.External.Path, noNode
				byHash[hash] = e
			}
		}
	}
	for _, p := range byHash {
		img.Spack = append(img.Spack, p)
	}
	slices.SortFunc(img.Spack, func(a, b *SpackPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.Hash, b.Hash))
	})
	img.findRoots(byHash)
}

// spackBills are Spack's own bills of materials, by the prefix that they are in.
type spackBills map[string][]byte

func (b spackBills) license(p *SpackPackage) string {
	return spack.DeclaredLicense(b[p.Prefix], p.Name, p.Version)
}

// findRoots says what was asked for, and leaves out of Needs what is not in
// the image, such as compilers.
func (img *Image) findRoots(byHash map[string]*SpackPackage) {
	needed := map[string]bool{}
	for _, p := range img.Spack {
		p.Needs = slices.DeleteFunc(p.Needs, func(hash string) bool { return byHash[hash] == nil })
		for _, hash := range p.Needs {
			needed[hash] = true
		}
	}
	locked := slices.ContainsFunc(img.Spack, func(p *SpackPackage) bool { return img.Roots[p.Hash] })
	for _, p := range img.Spack {
		p.Root = img.Roots[p.Hash] || !locked && !needed[p.Hash]
	}
}

func packageOf(s *spack.Spec) *SpackPackage {
	p := &SpackPackage{
		Name: s.Name, Version: s.Version, Hash: s.Hash,
		Arch: s.Arch.Platform + "-" + s.Arch.OS + "-" + s.Arch.Target, Variants: variants(s),
	}
	for _, d := range s.Dependencies {
		if d.Types&(spack.Link|spack.Run) != 0 {
			p.Needs = append(p.Needs, d.Hash)
		}
	}
	slices.Sort(p.Needs)
	return p
}

// variants writes them as Spack does: +shared ~debug build_type=Release.
func variants(s *spack.Spec) string {
	var words []string
	for name, v := range s.Variants {
		switch {
		case v.IsBool && v.Bool:
			words = append(words, "+"+name)
		case v.IsBool:
			words = append(words, "~"+name)
		default:
			words = append(words, name+"="+strings.Join(v.Values, ","))
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// parseStatus reads dpkg's list of packages, and keeps those that are
// installed.
func parseStatus(data []byte) []*DebianPackage {
	var list []*DebianPackage
	p, installed := &DebianPackage{}, true
	end := func() {
		if p.Name != "" && installed {
			list = append(list, p)
		}
		p, installed = &DebianPackage{}, true
	}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.TrimSpace(line) == "":
			end()
		case !ok || strings.HasPrefix(key, " "):
		case key == "Package":
			p.Name = value
		case key == "Status":
			installed = strings.HasSuffix(value, " installed")
		case key == "Version":
			p.Version = value
		case key == "Architecture":
			p.Architecture = value
		case key == "Source":
			p.Source = value
		case key == "Installed-Size":
			kib, _ := strconv.ParseInt(value, 10, 40) // 0 where it is not a number
			p.Size = kib << 10
		case key == "Depends", key == "Pre-Depends":
			p.Needs = append(p.Needs, debianNames(value)...)
		}
	}
	end()
	return list
}

// debianNames are the packages in a list of dependencies.
func debianNames(list string) []string {
	var names []string
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		name, _, _ := strings.Cut(strings.TrimSpace(word), " ")
		name, _, _ = strings.Cut(name, ":")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// parseRelease reads NAME=value lines.
func parseRelease(data []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
