package spack_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// versions are the Spacks that testdata/make.sh was run with.
func versions() []string { return []string{"spack-0.19", "spack-0.24", "spack-1.3"} }

func lock(t *testing.T, path ...string) *spack.Lock {
	t.Helper()
	file := filepath.Join(path...)
	l, err := spack.ParseLock(file, readFile(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// root returns the root of a name.
func root(t *testing.T, l *spack.Lock, name string) *spack.Spec {
	t.Helper()
	for _, r := range l.Roots {
		if s := l.Specs[r.Hash]; s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no root %s", name)
	return nil
}

func names(specs []*spack.Spec) string {
	var list []string
	for _, s := range specs {
		list = append(list, s.Name)
	}
	return strings.Join(list, " ")
}

// Whatever version of Spack made the lock, it says the same.
func TestLock(t *testing.T) {
	for _, version := range versions() {
		l := lock(t, "testdata", version, "spack.lock")
		want := map[string]int{"spack-0.19": 4, "spack-0.24": 5, "spack-1.3": 6}[version]
		if l.Version != want || !strings.HasPrefix(l.SpackVersion, strings.TrimPrefix(version, "spack-")) && version != "spack-0.19" {
			t.Errorf("%s: version %d, by Spack %q", version, l.Version, l.SpackVersion)
		}
		tool := root(t, l, "hello-tool")
		if !slices.Contains(l.Roots, spack.Root{Spec: "hello-tool+loud", Hash: tool.Hash}) || tool.Version != "0.4.1" {
			t.Errorf("%s: the roots are %+v", version, l.Roots)
		}
		if (tool.Arch != spack.Arch{Platform: "linux", OS: tool.Arch.OS, Target: "x86_64"}) || tool.Arch.OS == "" || tool.Namespace != "hello" {
			t.Errorf("%s: %+v", version, tool)
		}
		variants := map[string]spack.Variant{"loud": {IsBool: true, Bool: true}, "languages": {Values: []string{"de", "fr"}}}
		if version != "spack-0.19" {
			variants["build_system"] = spack.Variant{Values: []string{"generic"}}
		}
		if !reflect.DeepEqual(tool.Variants, variants) {
			t.Errorf("%s: %+v", version, tool.Variants)
		}
		for _, s := range l.Specs {
			if external := s.External != nil; external != (s.Name == "hello-system" || s.Name == "glibc" || s.Name == "gcc") {
				t.Errorf("%s: %s, external: %v", version, s, s.External)
			} else if external && s.External.Path != "/usr" {
				t.Errorf("%s: %s is in %q", version, s, s.External.Path)
			}
		}
	}
}

func TestDependencies(t *testing.T) {
	for _, version := range versions() {
		l := lock(t, "testdata", version, "spack.lock")
		got := map[string]string{}
		for _, d := range root(t, l, "hello-tool").Dependencies {
			got[d.Name] = d.Types.String()
		}
		if got["hello-lib"] != "build,link,run" || got["hello-build"] != "build" {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// What an image needs to run is less than what is installed, and a package
// comes after what it needs.
func TestClosure(t *testing.T) {
	for version, want := range map[string][3]string{
		"spack-0.19": {"hello-system hello-lib hello-tool", "hello-lib hello-tool", "hello-build hello-system hello-lib hello-tool"},
		"spack-0.24": {
			"glibc gcc-runtime hello-system hello-lib hello-compiled hello-tool",
			"hello-lib hello-compiled hello-tool",
			"glibc gcc-runtime hello-build hello-system hello-lib hello-compiled hello-tool",
		},
		"spack-1.3": {
			"glibc gcc-runtime hello-system hello-lib hello-compiled hello-tool",
			"hello-lib hello-compiled hello-tool",
			"compiler-wrapper gcc glibc gcc-runtime hello-build hello-system hello-lib hello-compiled hello-tool",
		},
	} {
		l := lock(t, "testdata", version, "spack.lock")
		for i, types := range [][]spack.DepType{{spack.Link, spack.Run}, {spack.Run}, nil} {
			specs, err := l.Closure(types...)
			if err != nil || names(specs) != want[i] {
				t.Errorf("%s, %v:\ngot  %s, %v\nwant %s", version, types, names(specs), err, want[i])
			}
		}
	}
}

// The order does not depend on that of the roots.
func TestClosureOrder(t *testing.T) {
	l := lock(t, "testdata", "spack-1.3", "spack.lock")
	hashes := []string{l.Roots[0].Hash, l.Roots[1].Hash}
	one, err := l.Specs.Closure(hashes, spack.Link|spack.Run)
	if err != nil {
		t.Fatal(err)
	}
	hashes[0], hashes[1] = hashes[1], hashes[0]
	other, err := l.Specs.Closure(append(hashes, hashes...), spack.Link|spack.Run)
	if err != nil || !reflect.DeepEqual(one, other) {
		t.Errorf("got %s and %s, %v", names(one), names(other), err)
	}
	if _, err := l.Specs.Closure([]string{"nope"}); err == nil || err.Error() != "there is no spec with the hash nope" {
		t.Errorf("an unknown root: %v", err)
	}
}

func TestCompilers(t *testing.T) {
	want := map[string][]spack.Compiler{
		"spack-0.24": {{Name: "gcc", Version: "12.2.0"}},
		"spack-1.3":  {{Name: "gcc", Version: "12.2.0", Languages: []string{"c"}}},
	}
	for version, want := range want {
		l := lock(t, "testdata", version, "spack.lock")
		for _, s := range l.Specs {
			if s.Name == "hello-compiled" && !reflect.DeepEqual(l.Specs.Compilers(s), want) {
				t.Errorf("%s: %+v", version, l.Specs.Compilers(s))
			}
		}
	}
}

// Older nodes describe targets, newer ones remember old compilers.
func TestOldNodes(t *testing.T) {
	text := lockText(4, "", `"`+hashA+`": {"name": "a", "version": "1", "arch": {"platform": "linux", "platform_os": "x", "target": {"name": "zen2"}},
		"compiler": {"name": "gcc", "version": "11.3.0"}, "external": {"path": "/usr", "module": ["m/1"]},
		"dependencies": [{"name": "b", "hash": "`+hashB+`", "type": ["build", "test"]}]},
		"`+hashB+`": {"name": "b", "version": "1", "annotations": {"original_specfile_version": 4, "compiler": "gcc@=12.1"}, "parameters": {"n": 3, "l": ["x", 1]}}`, "")
	l, err := spack.ParseLock("l", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, b := l.Specs[hashA], l.Specs[hashB]
	want := &spack.Spec{
		Name: "a", Version: "1", Hash: hashA, Arch: spack.Arch{Platform: "linux", OS: "x", Target: "zen2"},
		Compiler: spack.Compiler{Name: "gcc", Version: "11.3.0"}, External: &spack.External{Path: "/usr", Modules: []string{"m/1"}},
		Dependencies: []spack.Dependency{{Name: "b", Hash: hashB, Types: spack.Build | spack.Test}},
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v", a)
	}
	if b.Compiler.Version != "12.1" || !reflect.DeepEqual(b.Variants, map[string]spack.Variant{"n": {Values: []string{"3"}}, "l": {Values: []string{"x", "1"}}}) {
		t.Errorf("got %+v", b)
	}
}

func TestLockGroups(t *testing.T) {
	l := lock(t, "testdata", "spack-1.3", "spack-groups.lock")
	if l.Version != 7 || len(l.Roots) != 2 || l.Roots[0].Group != "" || l.Roots[1].Group != "tools" {
		t.Errorf("version %d, %+v", l.Version, l.Roots)
	}
}

// lockText is a small lock by hand.
func lockText(version int, roots, specs, more string) string {
	return fmt.Sprintf(`{"_meta": {"file-type": "spack-lockfile", "lockfile-version": %d}, "roots": [%s], "concrete_specs": {%s}%s}`,
		version, roots, specs, more)
}

const (
	hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// node is a spec by hand that depends on others.
func node(hash, name string, needs ...string) string {
	var deps []string
	for _, n := range needs {
		deps = append(deps, fmt.Sprintf(`{"name": "x", "hash": %q, "parameters": {"deptypes": ["link"], "virtuals": []}}`, n))
	}
	return fmt.Sprintf(`%q: {"name": %q, "version": "1", "hash": %q, "dependencies": [%s]}`, hash, name, hash, strings.Join(deps, ","))
}

func TestIncludedEnvironments(t *testing.T) {
	included := fmt.Sprintf(`, "include_concrete": {"/other": {"roots": [{"hash": %q, "spec": "b"}], "concrete_specs": {%s}}}`,
		hashB, node(hashB, "b"))
	l, err := spack.ParseLock("l", []byte(lockText(6, fmt.Sprintf(`{"hash": %q, "spec": "a"}`, hashA), node(hashA, "a", hashB), included)))
	if err != nil {
		t.Fatal(err)
	}
	want := []spack.Root{{Spec: "a", Hash: hashA}, {Spec: "b", Hash: hashB, Environment: "/other"}}
	if !reflect.DeepEqual(l.Roots, want) {
		t.Errorf("got %+v", l.Roots)
	}
}

func TestLockErrors(t *testing.T) {
	root := fmt.Sprintf(`{"hash": %q, "spec": "a"}`, hashA)
	for name, c := range map[string]struct{ text, want string }{
		"empty":      {"", "spack.lock:1:1: is not JSON: unexpected end of JSON input"},
		"no JSON":    {"{\n  \"a\": }", "spack.lock:2:8: is not JSON: invalid character '}' looking for beginning of value"},
		"a list":     {"[]", "spack.lock:1:1: the file cannot be of type array"},
		"other file": {"{}", `spack.lock: is not a lock file of Spack (its _meta:file-type is "")`},
		"old":        {lockText(3, "", "", ""), "spack.lock: has version 3 of the format, of a Spack before 0.18; make it anew with 'spack concretize --force'"},
		"new": {
			lockText(8, "", "", ""),
			"spack.lock: has version 8 of the format; the newest that is known is 7; use an older Spack, and make it anew with 'spack concretize --force'",
		},
		"no root":  {lockText(6, root, "", ""), "spack.lock: the root a is the spec " + hashA + ", which is not there"},
		"dangling": {lockText(6, root, node(hashA, "a", hashB), ""), "spack.lock: a@1/aaaaaaa depends on x/" + hashB + ", which is not there"},
		"circle":   {lockText(6, root, node(hashA, "a", hashB)+","+node(hashB, "b", hashA), ""), "spack.lock: a@1/aaaaaaa depends on itself"},
		"itself":   {lockText(6, root, node(hashA, "a", hashA), ""), "spack.lock: a@1/aaaaaaa depends on itself"},
		"hash":     {lockText(6, "", `"../../etc": {"name": "a", "version": "1"}`, ""), `spack.lock: "../../etc" is not a hash`},
		"name":     {lockText(6, "", node(hashA, "../a"), ""), `spack.lock: ` + hashA + `: "../a" is not the name of a package`},
		"version":  {lockText(6, "", strings.Replace(node(hashA, "a"), `"1"`, `"1\n2"`, 1), ""), `spack.lock: ` + hashA + `: "1\n2" is not a version`},
		"null":     {lockText(6, "", `"x": null`, ""), "spack.lock: the spec x is null"},
		"two keys": {
			lockText(6, "", strings.Replace(node(hashA, "a"), hashA, hashB, 1), ""),
			"spack.lock: the spec with the hash " + hashA + " is kept as " + hashB,
		},
		"type of dependency": {
			lockText(6, "", strings.Replace(node(hashA, "a", hashB), "link", "lnk", 1), ""),
			`spack.lock: a@1/aaaaaaa: dependency x: "lnk" is not a type of dependency`,
		},
		"spliced": {
			lockText(6, "", strings.Replace(node(hashA, "a"), `"version"`, `"build_spec": {"name": "b", "hash": "`+hashB+`"}, "version"`, 1), ""),
			"spack.lock: a@1/aaaaaaa was built as " + hashB + ", which is not there",
		},
		"10 MB": {`{"a": "` + strings.Repeat("x", 10<<20) + `"}`, "spack.lock: is larger than 10000000 bytes"},
		"deep":  {strings.Repeat("[", 100_000), "spack.lock:1:10001: is not JSON: invalid character '[' exceeded max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := spack.ParseLock("spack.lock", []byte(c.text))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// A long chain of packages is no deep recursion.
func TestLongChain(t *testing.T) {
	const length = 20_000
	hash := func(i int) string { return fmt.Sprintf("%032d", i) }
	var nodes []string
	for i := range length {
		if i+1 < length {
			nodes = append(nodes, node(hash(i), "p", hash(i+1)))
		} else {
			nodes = append(nodes, node(hash(i), "p"))
		}
	}
	l, err := spack.ParseLock("l", []byte(lockText(6, fmt.Sprintf(`{"hash": %q, "spec": "p"}`, hash(0)), strings.Join(nodes, ","), "")))
	if err != nil {
		t.Fatal(err)
	}
	specs, err := l.Closure()
	if err != nil || len(specs) != length || specs[0].Hash != hash(length-1) {
		t.Errorf("%d specs, %v", len(specs), err)
	}
}

func TestSampleLock(t *testing.T) {
	l := lock(t, samples(t), "pdi", "spack.lock")
	specs, err := l.Closure(spack.Link, spack.Run)
	if err != nil {
		t.Fatal(err)
	}
	built := 0
	for _, s := range specs {
		if s.External == nil {
			built++
		}
	}
	if built != 8 || len(l.Roots) != 6 || specs[len(specs)-1].Name[:3] != "pdi" {
		t.Errorf("%d of %d are built: %s", built, len(specs), names(specs))
	}
}
