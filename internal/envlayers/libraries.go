package envlayers

import (
	"debug/elf"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/elfkind"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
)

// A Lack is a library that the builder has and the final root has not.
type Lack struct {
	// library is its name, and version the one that an existing library does
	// not define.
	library, version string
	// owner is the distribution's package that has it in the builder.
	owner string
	// users are files that need it.
	users []string
}

// Describe names the libraries in one line, and returns a hint for the recipe.
func Describe(lacks []Lack) (text, hint string) {
	var lines, owners []string
	hint = "install them in the final stage, with a run step before the environment step"
	for _, l := range lacks {
		what := l.library
		if l.version != "" {
			what += " of version " + l.version
			hint = "the builder's distribution is newer than the final one: build on the same, or an older one"
		}
		line := fmt.Sprintf("%s (needed by %s", what, path.Base(l.users[0]))
		if n := len(l.users) - 1; n > 0 {
			line += fmt.Sprintf(" and %d more", n)
		}
		if l.owner != "" {
			line += ", in package " + l.owner
			owners = append(owners, l.owner)
		}
		lines = append(lines, line+")")
	}
	if owners = slices.Compact(slices.Sorted(slices.Values(owners))); len(owners) > 0 && !strings.Contains(hint, "newer") {
		hint = "install what is missing in the final stage, before the environment step: run: apt-get update && apt-get install -y --no-install-recommends " + strings.Join(owners, " ")
	}
	return strings.Join(lines, ", "), hint
}

// Compare returns the libraries that files of the installation find with the
// builder's linker and not with the final one's. Libraries that the builder lacks
// as well, such as those of a graphics card's driver, do not count.
func Compare(in *spackinstall.Installation, builder, final *Linker) ([]Lack, error) {
	found := map[string]*Lack{}
	for _, l := range []*Linker{builder, final} {
		if err := l.addBundled(in); err != nil {
			return nil, err
		}
	}
	for _, p := range in.Packages {
		err := final.root.Walk(p.Prefix, func(f *rootfs.File) error {
			if !f.Info.Mode().IsRegular() {
				return nil
			}
			for _, n := range needsOf(final.root, f.Name) {
				if final.has(f.Name, n) || !builder.has(f.Name, n) {
					continue
				}
				if n.version != "" && final.find(f.Name, n) == "" {
					continue // the library as a whole is lacking
				}
				key := n.library + " " + n.version
				if found[key] == nil {
					found[key] = &Lack{library: n.library, version: n.version, owner: builder.owner(n.library)}
				}
				found[key].users = append(found[key].users, f.Name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var lacks []Lack
	for _, key := range slices.Sorted(maps.Keys(found)) {
		lacks = append(lacks, *found[key])
	}
	return lacks, nil
}

// A need is a library that an ELF file needs, or a version of its symbols.
type need struct {
	library, version string
	// paths are the directories that the file has searched first.
	paths []string
}

// needsOf lists the needs of a file, by its real path; files that are not
// dynamically linked have none.
func needsOf(root *rootfs.Root, name string) []need {
	file, err := root.OpenExact(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	if kind := elfkind.Of(file); kind != elfkind.Program && kind != elfkind.Shared {
		return nil
	}
	f, err := elf.NewFile(file)
	if err != nil {
		return nil
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return nil
	}
	var paths []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		if values, err := f.DynString(tag); err == nil {
			for _, v := range values {
				paths = append(paths, strings.Split(v, ":")...)
			}
		}
	}
	var needs []need
	for _, l := range libraries {
		needs = append(needs, need{library: l, paths: paths})
	}
	versions, err := f.DynamicVersionNeeds()
	if err != nil {
		return needs // a file without versions
	}
	for _, v := range versions {
		for _, dep := range v.Needs {
			needs = append(needs, need{library: v.Name, version: dep.Dep, paths: paths})
		}
	}
	return needs
}

// A Linker finds shared libraries as ld.so does in a root; see ld.so(8).
type Linker struct {
	root *rootfs.Root
	// dirs are searched last.
	dirs []string
	// places and versions are the results of earlier searches.
	places   map[string]string
	versions map[string][]string
}

// NewLinker returns the linker of a root.
func NewLinker(root *rootfs.Root) *Linker {
	l := &Linker{root: root, places: map[string]string{}, versions: map[string][]string{}}
	l.readConf("/etc/ld.so.conf", 0)
	l.dirs = append(l.dirs, "/lib", "/usr/lib", "/lib64", "/usr/lib64")
	return l
}

// readConf reads ld.so.conf and the files that it includes.
func (l *Linker) readConf(name string, depth int) {
	data, err := l.root.ReadFile(name)
	if err != nil || depth > 4 {
		return
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		pattern, ok := strings.CutPrefix(line, "include ")
		if !ok {
			if path.IsAbs(line) {
				l.dirs = append(l.dirs, line)
			}
			continue
		}
		if !path.IsAbs(pattern) {
			pattern = path.Join(path.Dir(name), pattern)
		}
		matches, _ := l.root.Glob(pattern) // a bad pattern matches nothing
		for _, m := range matches {
			l.readConf(m, depth+1)
		}
	}
}

// addBundled adds the libraries of the installed packages. A library that needs
// one of another package finds it by the search path of a program that loads
// both.
func (l *Linker) addBundled(in *spackinstall.Installation) error {
	for _, p := range in.Packages {
		err := l.root.Walk(p.Prefix, func(f *rootfs.File) error {
			base := path.Base(f.Name)
			if f.Info.IsDir() || !strings.Contains(base, ".so") {
				return nil
			}
			if place := l.file(f.Name); place != "" {
				l.places[base] = place
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// has reports whether the file finds the library that it needs.
func (l *Linker) has(user string, n need) bool {
	place := l.find(user, n)
	if place == "" || n.version == "" {
		return place != ""
	}
	return slices.Contains(l.versionsOf(place), n.version)
}

// find returns the real path of a library; "" if there is none.
func (l *Linker) find(user string, n need) string {
	if path.IsAbs(n.library) {
		return l.file(n.library)
	}
	for _, dir := range n.paths {
		dir = strings.NewReplacer("$ORIGIN", path.Dir(user), "${ORIGIN}", path.Dir(user)).Replace(dir)
		if place := l.file(path.Join(dir, n.library)); place != "" {
			return place
		}
	}
	if place, ok := l.places[n.library]; ok {
		return place
	}
	for _, dir := range l.dirs {
		if place := l.file(path.Join(dir, n.library)); place != "" {
			l.places[n.library] = place
			return place
		}
	}
	l.places[n.library] = ""
	return ""
}

// file is the real path of a regular file, "" if there is none.
func (l *Linker) file(name string) string {
	if info, err := l.root.Stat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	real, err := l.root.Resolve(name)
	if err != nil {
		return ""
	}
	return real
}

// versionsOf are the versions that a library defines.
func (l *Linker) versionsOf(place string) []string {
	names, ok := l.versions[place]
	if !ok {
		names = readVersions(l.root, place)
		l.versions[place] = names
	}
	return names
}

func readVersions(root *rootfs.Root, place string) (names []string) {
	file, err := root.OpenExact(place)
	if err != nil {
		return nil
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil
	}
	defined, err := f.DynamicVersions()
	if err != nil {
		return nil
	}
	for _, v := range defined {
		names = append(names, v.Name)
	}
	return names
}

// owner is the Debian package that has a library of the distribution; see
// dpkg-query(1) for its lists. "" means that it is not known.
func (l *Linker) owner(library string) string {
	place := l.places[library]
	if place == "" {
		return ""
	}
	lists, _ := l.root.Glob("/var/lib/dpkg/info/*.list") // the pattern is right
	for _, list := range lists {
		data, err := l.root.ReadFile(list)
		if err != nil || !strings.Contains(string(data), "/"+library+"\n") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(path.Base(list), ".list"), ":")
		return name
	}
	return ""
}
