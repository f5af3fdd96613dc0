// Package depcheck keeps the direction of imports: which package of this
// module may know which. It has no code, only the test.
package depcheck

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/pdidev/pdibuild"
	tags   = "containers_image_openpgp exclude_graphdriver_btrfs"
)

// rules say what a package, and everything it imports, must not import. A
// pattern covers the packages below it.
var rules = []struct {
	pkg, reason string
	forbidden   []string
}{
	{
		"pkg/recipe", "a recipe is data: it knows neither who builds it nor the network",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/inspect", "internal/ownership", "internal/secret", "go.podman.io", "net/http", "os/exec"},
	},
	{
		"pkg/spack", "Spack's files and words, and nothing else",
		[]string{"cmd", "pkg/recipe", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/inspect", "go.podman.io", "net/http", "os/exec"},
	},
	{
		"pkg/containerfile", "it writes a file of a recipe, and nothing else",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/inspect", "go.podman.io", "net/http", "os/exec"},
	},
	{
		"pkg/cache", "the cache may talk to a registry, but never knows the engine or the builder",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/inspect", "go.podman.io/buildah", "go.podman.io/storage"},
	},
	{
		"pkg/failure", "every package may return one of these errors",
		[]string{"cmd", "pkg/builder", "pkg/recipe", "pkg/spack", "pkg/layer", "pkg/cache", "pkg/inspect", "go.podman.io", "net/http", "os/exec"},
	},
	{
		"pkg/layer", "layers know the store, not the engine or the builder",
		[]string{"cmd", "pkg/builder", "pkg/cache", "pkg/recipe", "pkg/spack", "pkg/inspect", "go.podman.io/buildah"},
	},
	{
		"pkg/progress", "what a build reports is below all that reports it",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/recipe", "pkg/inspect", "go.podman.io", "net/http", "os/exec"},
	},
	{
		"pkg/builder", "the library never knows its command line",
		[]string{"cmd", "pkg/inspect"},
	},
	{
		"pkg/doctor", "it looks at the host through the builder",
		[]string{"cmd", "pkg/inspect"},
	},
	{
		"pkg/inspect", "looking at an image does not build one",
		[]string{"cmd", "pkg/builder", "go.podman.io/buildah"},
	},
	{
		"internal/spackmirror", "packages of Spack come and go without an engine",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/inspect", "internal/spackinstall", "internal/envlayers", "go.podman.io/buildah", "go.podman.io/storage"},
	},
	{
		"internal/imagetransfer", "images outside of the store are reached without one",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/recipe", "pkg/spack", "pkg/inspect", "internal/worker", "internal/imagestore", "go.podman.io/buildah"},
	},
	{
		"internal/buildcontext", "the context is read without an engine",
		[]string{"cmd", "pkg/builder", "pkg/spack", "pkg/inspect", "internal/worker", "internal/registry", "go.podman.io/buildah"},
	},
	{
		"internal/fileentry", "files become entries of layers below all that makes layers",
		[]string{"cmd", "pkg/builder", "pkg/cache", "pkg/recipe", "pkg/spack", "pkg/inspect", "internal/worker", "go.podman.io/buildah"},
	},
	{
		"internal/namespace", "a process's namespaces are below all that runs in them",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/cache", "pkg/recipe", "pkg/spack", "pkg/inspect", "internal/imagestore", "internal/worker", "go.podman.io/buildah", "net/http"},
	},
	{
		"internal/envlayers", "it describes layers, and the step that runs it makes them",
		[]string{"cmd", "pkg/builder", "pkg/inspect", "go.podman.io/buildah"},
	},
	{
		"internal/spackinstall", "it has commands run and leaves layers to the step that runs it",
		[]string{"cmd", "pkg/builder", "pkg/layer", "pkg/inspect", "internal/envlayers", "go.podman.io/buildah"},
	},
	{
		"internal", "internal packages are below pkg/",
		[]string{"cmd", "pkg", "go.podman.io/buildah"},
	},
}

// rooms are the internal packages that do a part of pkg/builder's work, with the
// packages of pkg/ that are below them. The rule for internal does not hold.
var rooms = []string{
	"internal/buildcontext", "internal/envlayers", "internal/fileentry", "internal/imagetransfer", "internal/namespace",
	"internal/spackinstall", "internal/spackmirror",
}

// engineUsers are the packages that may import buildah, storage or image
// themselves; cache only image.
var engineUsers = map[string][]string{
	"pkg/builder":            {"go.podman.io/buildah", "go.podman.io/storage", "go.podman.io/image", "go.podman.io/common"},
	"pkg/layer":              {"go.podman.io/storage", "go.podman.io/image"},
	"pkg/inspect":            {"go.podman.io/storage", "go.podman.io/image"},
	"pkg/cache":              {"go.podman.io/image"},
	"internal/imagetransfer": {"go.podman.io/image"},
	"internal/imagestore":    {"go.podman.io/storage"},
	"internal/namespace":     {"go.podman.io/storage/pkg/unshare", "go.podman.io/storage/pkg/homedir"},
	"internal/registry":      {"go.podman.io/image/v5/pkg/tlsclientconfig"}, // it reads certificates
	// Neither knows an engine: podman's profile is a table, and what the worker
	// takes from storage starts processes and maps ids.
	"internal/seccomp": {"go.podman.io/common/pkg/seccomp"},
	"internal/worker":  {"go.podman.io/storage/pkg/reexec", "go.podman.io/storage/pkg/idmap", "go.podman.io/storage/pkg/idtools"},
}

// unclear are names that say nothing about what a package is for.
var unclear = []string{"util", "utils", "common", "types", "helper", "helpers", "misc"}

// A listed package is what the test needs of `go list -json`.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range list(t) {
		for _, rule := range rules {
			if !within(p.ImportPath, rule.pkg) || rule.pkg == "internal" && slices.Contains(rooms, short(p.ImportPath)) {
				continue
			}
			for _, dep := range p.Deps {
				if i := slices.IndexFunc(rule.forbidden, func(f string) bool { return within(dep, f) }); i >= 0 {
					t.Errorf("%s imports %s, directly or not: %s", short(p.ImportPath), short(dep), rule.reason)
				}
			}
		}
	}
}

func TestOnlyEnginePackagesImportTheEngine(t *testing.T) {
	for _, p := range list(t) {
		for _, imported := range p.Imports {
			if within(imported, "go.podman.io") && !mayImport(p.ImportPath, imported) {
				t.Errorf("%s imports %s: see design of the packages, only %v may use the engine", short(p.ImportPath), imported, engineUsers)
			}
		}
	}
}

func TestOldPathsAndUnclearNames(t *testing.T) {
	for _, p := range list(t) {
		for _, old := range []string{"github.com/containers/buildah", "github.com/containers/storage", "github.com/containers/image"} {
			if slices.ContainsFunc(p.Deps, func(dep string) bool { return within(dep, old) }) {
				t.Errorf("%s imports %s, which moved to go.podman.io", short(p.ImportPath), old)
			}
		}
		name := p.ImportPath[strings.LastIndexByte(p.ImportPath, '/')+1:]
		if slices.Contains(unclear, name) {
			t.Errorf("%s: a package is named after what it does", short(p.ImportPath))
		}
	}
}

// Without the build tags these need C headers, and their compilers' errors would
// be all that a builder of this module reads.
func TestPackagesThatNeedBuildTagsSaySo(t *testing.T) {
	for _, p := range list(t) {
		for _, needy := range []string{"go.podman.io/storage/drivers/register", "go.podman.io/image/v5/signature"} {
			if slices.Contains(p.Deps, needy) && !slices.Contains(p.Deps, module+"/internal/buildtags") {
				t.Errorf("%s imports %s, directly or not, without internal/buildtags", short(p.ImportPath), needy)
			}
		}
	}
}

// mayImport says whether pkg may import an engine package by itself.
func mayImport(pkg, imported string) bool {
	for user, engines := range engineUsers {
		if within(pkg, user) && slices.ContainsFunc(engines, func(e string) bool { return within(imported, e) }) {
			return true
		}
	}
	return false
}

// within says whether an import path is pattern or below it. A pattern
// without a host is of this module.
func within(path, pattern string) bool {
	if host, _, _ := strings.Cut(pattern, "/"); slices.Contains([]string{"cmd", "pkg", "internal"}, host) {
		pattern = module + "/" + pattern
	}
	return path == pattern || strings.HasPrefix(path, pattern+"/")
}

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

// list returns the module's packages without their tests.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", "-tags", tags, module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read go list's output: %v", err)
		}
		packages = append(packages, p)
	}
	if !slices.ContainsFunc(packages, func(p listed) bool { return p.ImportPath == module+"/pkg/recipe" && len(p.Deps) > 0 }) {
		t.Fatalf("go list does not show pkg/recipe with its imports; it said:\n%s", out)
	}
	return packages
}
