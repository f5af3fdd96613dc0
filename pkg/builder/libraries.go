package builder

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// proveLibraries makes sure that the programs and libraries of environments
// find in the finished root what they found in the builder. What the builder
// lacks, too, such as the libraries of a graphics card's driver, does not
// count.
func (x *stepRun) proveLibraries(_ context.Context, s state) (err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, true)) }()
	final := newLinker(wk.root)
	for _, step := range x.stage.Steps {
		e, ok := step.(recipe.Environment)
		if !ok {
			continue
		}
		from := x.run.finished()[e.From]
		source, err := x.run.b.works.create(from.layer)
		if err != nil {
			return err
		}
		lacks, err := compareLibraries(from.installation(e.Name), newLinker(source.root), final)
		if err = errors.Join(err, source.release()); err != nil {
			return err
		}
		if len(lacks) > 0 {
			return x.libraryError(lacks)
		}
	}
	return nil
}

// A lack is a library that the builder has and the final root has not.
type lack struct {
	// library is its name, and version what is lacking of a library that is
	// there.
	library, version string
	// owner is the distribution's package that has it in the builder.
	owner string
	// users are files that need it.
	users []string
}

func (x *stepRun) libraryError(lacks []lack) error {
	var lines, owners []string
	hint := "install them in the final stage, with a run step before the environment step"
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
	return &StepError{
		Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: -1, Hint: hint,
		Err: fmt.Errorf("the final image lacks shared libraries that the builder has: %s", strings.Join(lines, ", ")),
	}
}

// compareLibraries returns what files of the installation find with the one
// linker and not with the other.
func compareLibraries(in *installation, builder, final *linker) ([]lack, error) {
	found := map[string]*lack{}
	for _, l := range []*linker{builder, final} {
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
					found[key] = &lack{library: n.library, version: n.version, owner: builder.owner(n.library)}
				}
				found[key].users = append(found[key].users, f.Name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var lacks []lack
	for _, key := range slices.Sorted(maps.Keys(found)) {
		lacks = append(lacks, *found[key])
	}
	return lacks, nil
}

// A need is a library that an ELF file wants, or a version of its symbols.
type need struct {
	library, version string
	// paths are where the file wants it looked for first.
	paths []string
}

// needsOf lists what a file needs, by its real path; files that are not
// dynamically linked need nothing.
func needsOf(root *rootfs.Root, name string) []need {
	file, err := root.OpenExact(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	if kind := kindOf(file); kind != elfProgram && kind != elfShared {
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

// A linker finds shared libraries as ld.so does in a root; see ld.so(8).
type linker struct {
	root *rootfs.Root
	// dirs are those that are searched last.
	dirs []string
	// places and versions remember answers.
	places   map[string]string
	versions map[string][]string
}

func newLinker(root *rootfs.Root) *linker {
	l := &linker{root: root, places: map[string]string{}, versions: map[string][]string{}}
	l.readConf("/etc/ld.so.conf", 0)
	l.dirs = append(l.dirs, "/lib", "/usr/lib", "/lib64", "/usr/lib64")
	return l
}

// readConf reads ld.so.conf and what it includes.
func (l *linker) readConf(name string, depth int) {
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

// addBundled adds the libraries of the installed packages. Whoever needs one
// of another package finds it by the search path of a program that loads both.
func (l *linker) addBundled(in *installation) error {
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

// has reports whether the file finds what it needs.
func (l *linker) has(user string, n need) bool {
	place := l.find(user, n)
	if place == "" || n.version == "" {
		return place != ""
	}
	return slices.Contains(l.versionsOf(place), n.version)
}

// find returns the real path of a library; "" if there is none.
func (l *linker) find(user string, n need) string {
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
func (l *linker) file(name string) string {
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
func (l *linker) versionsOf(place string) []string {
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
func (l *linker) owner(library string) string {
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
