package depcheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// walksOfOwnFiles may walk by path names: what they walk through is the
// program's own or the user's, no name in it comes from an image, and nothing
// that they find is opened.
var walksOfOwnFiles = map[string]string{
	"internal/spackinstall/inputs.go": "the Spack that the user names",
}

// sharedCaches handle directories that commands write to, of which they know
// nothing. They name no file there by its path on the host.
var sharedCaches = []string{
	"internal/spackmirror/local.go", "pkg/builder/cache_sources.go", "pkg/builder/step_run_caches.go",
	"pkg/cache/buildcache/directory.go", "pkg/cache/buildcache/files.go",
}

// byPath are the functions that would.
var byPath = []string{
	"os.Open", "os.OpenFile", "os.Create", "os.ReadFile", "os.WriteFile", "os.ReadDir", "os.Stat", "os.Lstat",
	"os.Remove", "os.RemoveAll", "os.Rename", "os.Chmod", "os.DirFS",
}

// hostPaths may hand the path of a root to something else.
var hostPaths = map[string]string{
	"pkg/builder/bootstrap.go": "the program that makes the first root is the host's",
	"pkg/builder/container.go": "the worker mounts it",
	"pkg/builder/failed.go":    "the worker mounts it",
	"pkg/builder/step_run.go":  "the worker mounts it",

	"pkg/builder/root_directory.go": "the root itself gets its mode and owner, nothing in it",
}

// A violation is a place where a path of the host is made of a root's.
type violation struct{ file, what string }

// violations finds, in a file, what reaches into a root past internal/rootfs.
func violations(name string, file *ast.File) (found []violation) {
	report := func(what string) { found = append(found, violation{name, what}) }
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch callee := calleeOf(n); {
			case callee == "filepath.Glob":
				report("filepath.Glob: the directory's path is part of the pattern; use rootfs.Root.Glob, or fs.Glob in os.DirFS for the program's own files")
			case (callee == "filepath.Walk" || callee == "filepath.WalkDir") && walksOfOwnFiles[name] == "":
				report(callee + ": use rootfs.Root.Walk")
			case slices.Contains(byPath, callee) && slices.Contains(sharedCaches, name):
				report(callee + ": commands may have put a link there; use an os.Root")
			case strings.HasPrefix(callee, "securejoin."):
				report(callee + ": what it returns may be a link when it is used; use rootfs.Root")
			case joins(callee) && slices.ContainsFunc(n.Args, isRootPath):
				report(callee + " with the path of a root: name files in the root")
			case strings.HasSuffix(callee, ".HostPath") && isRoot(n.Fun.(*ast.SelectorExpr).X) && hostPaths[name] == "":
				report("the host's path of a root: use its methods")
			}
		case *ast.BinaryExpr:
			if n.Op == token.ADD && (isRootPath(n.X) || isRootPath(n.Y)) {
				report("+ with the path of a root: name files in the root")
			}
		}
		return true
	})
	return found
}

func calleeOf(call *ast.CallExpr) string {
	if f, ok := call.Fun.(*ast.SelectorExpr); ok {
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	}
	return ""
}

func joins(callee string) bool {
	return slices.Contains([]string{"filepath.Join", "path.Join", "os.DirFS", "os.OpenRoot", "os.OpenInRoot"}, callee)
}

// isRootPath reports whether an expression is the host's path of a root or of a
// layer's directory.
func isRootPath(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CallExpr:
		return strings.HasSuffix(calleeOf(e), ".HostPath")
	case *ast.IndexExpr: // of the storage driver's metadata
		key, ok := e.Index.(*ast.BasicLit)
		return ok && slices.Contains([]string{`"UpperDir"`, `"MergedDir"`, `"LowerDir"`}, key.Value)
	}
	return false
}

// isRoot reports whether an expression names a root, going by its last word.
func isRoot(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return slices.Contains([]string{"root", "r", "upper", "below", "image", "view", "before"}, e.Name)
	case *ast.SelectorExpr:
		return slices.Contains([]string{"root", "Root", "upper"}, e.Sel.Name)
	}
	return false
}

// Files of images, stages and layers are reached through internal/rootfs alone:
// a path of the host that is put together follows links to the host.
func TestRootsAreEnteredByDescriptor(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{"pkg", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(full string, d fs.DirEntry, err error) error {
			name := filepath.ToSlash(strings.TrimPrefix(full, "../../"))
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || !engine(name) {
				return err
			}
			used[name] = true
			file, err := parser.ParseFile(token.NewFileSet(), full, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, v := range violations(name, file) {
				t.Errorf("%s: %s", v.file, v.what)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(used) < 100 {
		t.Errorf("only %d files were read", len(used))
	}
	for _, name := range sharedCaches {
		if !used[name] {
			t.Errorf("%s is not there any more: take it off the list", name)
		}
	}
	for _, list := range []map[string]string{hostPaths, walksOfOwnFiles} {
		for name := range list {
			if !used[name] {
				t.Errorf("%s is not there any more: take it off the list", name)
			}
		}
	}
}

// engine reports whether a file belongs to what handles images. The packages
// that run a command do so in roots of their own and have their own tests.
func engine(name string) bool {
	for _, dir := range []string{"internal/rootfs/", "internal/ownership/", "internal/worker/", "internal/depcheck/", "internal/hosttest/", "pkg/doctor/", "pkg/recipe/"} {
		if strings.HasPrefix(name, dir) {
			return false
		}
	}
	return true
}

// The rule finds what it is about.
func TestViolationsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`filepath.Glob(dir + "/*")`:               1,
		`filepath.WalkDir(dir, nil)`:              1,
		`filepath.Join(wk.root.HostPath(), name)`: 2,
		`os.Open(view.Root.HostPath() + name)`:    2,
		`filepath.Join(meta["UpperDir"], name)`:   1,
		`os.OpenRoot(wk.root.HostPath())`:         2,
		`securejoin.SecureJoin(dir, name)`:        1,
		`os.Open(f.HostPath())`:                   0,
		`wk.root.Walk("/", nil)`:                  0,
		`filepath.Join(b.cacheDir, name)`:         0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() { "+text+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if found := violations("pkg/builder/x.go", file); len(found) != want {
			t.Errorf("%s: %v, want %d", text, found, want)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() { os.Remove(e.path); root.Remove(name) }", 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := violations(sharedCaches[0], file); len(found) != 1 {
		t.Errorf("in a shared cache: %v", found)
	}
}
