package depcheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// verbs and flags of the command line are what its files say they are.
var (
	useOfVerb = regexp.MustCompile(`Use:\s+"([a-z]+)`)
	flagOf    = regexp.MustCompile(`Var[P]?\([^,]+, "([a-z][a-z-]+)"`)
)

// otherPrograms have flags of the same names: files that write command lines of
// spack, mmdebstrap, docker and others.
var otherPrograms = []string{"pkg/containerfile/", "pkg/recipe/schemagen/", "pkg/spack/", "pkg/builder/bootstrap.go", "pkg/builder/spack"}

// A library does not know which program asks: its errors have codes, and the
// command words them (cmd/pdibuild/words.go).
func TestLibrariesDoNotNameTheCommandLine(t *testing.T) {
	named := commandLine(t)
	const seed = `"pdibuild sbom "` // of an id that has to stay the same
	for name, file := range sources(t, "pkg") {
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && l.Value != seed {
				for _, word := range named.FindAllString(l.Value, -1) {
					other := strings.Contains(word, "--") && slices.ContainsFunc(otherPrograms, func(p string) bool { return strings.HasPrefix(name, p) })
					if !other && !strings.HasPrefix(name, "pkg/recipe/schemagen/") {
						t.Errorf("%s: %s names %q of the command line", name, l.Value, strings.TrimSpace(word))
					}
				}
			}
			return true
		})
	}
	for text, want := range map[string]bool{
		`"look with 'pdibuild images'"`: true, `"allow it with --pull=missing"`: true, `"--no-install-recommends"`: false, `"pdibuild sbom "`: true,
	} {
		if named.MatchString(text) != want {
			t.Errorf("%s is found: %v", text, !want)
		}
	}
}

// commandLine finds what names a verb or a long flag.
func commandLine(t *testing.T) *regexp.Regexp {
	t.Helper()
	var verbs, flags []string
	files, err := fs.Glob(os.DirFS("../../cmd/pdibuild"), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join("../../cmd/pdibuild", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range useOfVerb.FindAllSubmatch(text, -1) {
			verbs = append(verbs, string(m[1]))
		}
		for _, m := range flagOf.FindAllSubmatch(text, -1) {
			flags = append(flags, string(m[1]))
		}
	}
	if len(verbs) < 15 || len(flags) < 30 {
		t.Fatalf("only the verbs %v and the flags %v were found", verbs, flags)
	}
	return regexp.MustCompile(`pdibuild (?:` + strings.Join(verbs, "|") + `)\b|(?:^|[\s'"` + "`" + `(])--(?:` + strings.Join(flags, "|") + `)(?:[\s='"` + "`" + `;,)]|$)`)
}

// sources are the parsed files below a directory, without tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(filepath.Join("../..", dir), func(full string, d fs.DirEntry, err error) error {
		name := filepath.ToSlash(strings.TrimPrefix(full, "../../"))
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		files[name], err = parser.ParseFile(token.NewFileSet(), full, nil, parser.SkipObjectResolution)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
