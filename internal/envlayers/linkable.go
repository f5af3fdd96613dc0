package envlayers

import (
	"cmp"
	"debug/elf"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/elfkind"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A Linkable is a shared library of an environment that a program can be linked
// with: -L Dir -l Name, and one of its functions.
type Linkable struct{ Dir, Name, Symbol string }

// ChooseLinkable returns the library that needs the fewest others, all of which
// the root must have; nil if there is none.
func ChooseLinkable(root *rootfs.Root, candidates []string) *Linkable {
	type candidate struct {
		Linkable
		needs int
	}
	linker := NewLinker(root)
	var usable []candidate
	for _, name := range candidates {
		real := linker.file(name)
		if real == "" {
			continue
		}
		needs := needsOf(root, real)
		symbol := functionOf(root, real)
		if symbol == "" || slices.ContainsFunc(needs, func(n need) bool { return !linker.has(real, n) }) {
			continue
		}
		short := strings.TrimSuffix(strings.TrimPrefix(path.Base(name), "lib"), ".so")
		usable = append(usable, candidate{Linkable{path.Dir(name), short, symbol}, len(needs)})
	}
	if len(usable) == 0 {
		return nil
	}
	best := slices.MinFunc(usable, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.needs, b.needs), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Dir, b.Dir))
	})
	return &best.Linkable
}

var identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// functionOf returns a function that a shared library exports, "" if it has none
// or is another kind of file. It is the one with the longest name, which is not
// built into any compiler.
func functionOf(root *rootfs.Root, name string) string {
	file, err := root.OpenExact(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	if elfkind.Of(file) != elfkind.Shared {
		return ""
	}
	f, err := elf.NewFile(file)
	if err != nil {
		return ""
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return ""
	}
	best := ""
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || elf.ST_BIND(s.Info) != elf.STB_GLOBAL || elf.ST_VISIBILITY(s.Other) != elf.STV_DEFAULT ||
			s.Section == elf.SHN_UNDEF || s.HasVersion && s.VersionIndex.IsHidden() || !identifier.MatchString(s.Name) {
			continue
		}
		if len(s.Name) > len(best) || len(s.Name) == len(best) && s.Name < best {
			best = s.Name
		}
	}
	return best
}
