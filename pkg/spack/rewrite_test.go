package spack_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// What is not asked for stays: comments, order, and the keys that are unknown
// here.
func TestRewrite(t *testing.T) {
	data, err := parse(t, tutorial).Rewrite(
		spack.Remove("container"),
		spack.Remove("container", "strip"),
		spack.Set("/opt/views/view", "view"),
		spack.Set("/opt/software", "config", "install_tree", "root"),
		spack.Set("file:///cache", "mirrors", "local", "url"),
		spack.Set([]string{"/r"}, "repos"),
		spack.Set(4, "config", "build_jobs"),
		spack.Set(true, "concretizer", "reuse"),
	)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		"# What the course needs.\nspack:\n", "  # Everything is linked into one place.\n  view: /opt/views/view\n",
		"- pdi~fortran # no Fortran here\n", "padded_length: 128\n      root: /opt/software\n", "    build_jobs: 4\n",
		"    local:\n      url: file:///cache\n", "  'repos:':\n    - /r\n", "    unify: true\n    reuse: true\n", "x86_64_v3", "['+mpi', ~mpi]",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "ubuntu") || strings.Contains(text, "docker | singularity") {
		t.Errorf("the section is still in\n%s", text)
	}
	before, after := parse(t, tutorial), parse(t, text)
	for i := range before.Specs {
		before.Specs[i].Line, after.Specs[i].Line = 0, 0
	}
	if !reflect.DeepEqual(before.Specs[:3], after.Specs[:3]) || after.Container != nil || len(after.Mirrors) != 3 {
		t.Errorf("it reads as %+v", after)
	}
}

func TestRewriteAliases(t *testing.T) {
	e := parse(t, "spack:\n  config: &c {a: {b: 1}}\n  packages: *c\n  modules: *c\n")
	data, err := e.Rewrite(spack.Set(2, "packages", "a", "b"), spack.Remove("config"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "spack:\n  packages: {a: {b: 2}}\n  modules: {a: {b: 1}}\n"; string(data) != want {
		t.Errorf("got %s want %s", data, want)
	}
}

func TestRewriteSmall(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		edit spack.Edit
		want string
	}{
		"nothing there":   {"spack:\n", spack.Set(true, "view"), "spack:\n  view: true\n"},
		"flow":            {"spack: {}\n", spack.Set("r", "config", "install_tree", "root"), "spack:\n  config:\n    install_tree:\n      root: r\n"},
		"null on the way": {"spack:\n  config:\n", spack.Set("x", "config", "y"), "spack:\n  config:\n    y: x\n"},
		"absent":          {"spack:\n  view: true\n", spack.Remove("config", "x"), "spack:\n  view: true\n"},
		"a comment stays": {"spack:\n  view: true # why\n", spack.Set(false, "view"), "spack:\n  view: false # why\n"},
	} {
		data, err := parse(t, c.text).Rewrite(c.edit)
		if err != nil || string(data) != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, data, err, c.want)
		}
	}
	// Where the YAML library would change a value, how it is written changes.
	data, err := parse(t, "spack:\n  # why\n  a: >\n\n    x\n     y\n\n  b: {c: , d: ~}\n").Rewrite(spack.Set(true, "view"))
	if want := "spack:\n  # why\n  a: \"\\nx\\n y\\n\"\n  b: {c: null, d: null}\n  view: true\n"; err != nil || string(data) != want {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
	if _, err := parse(t, "spack:\n  ? \n  : b\n").Rewrite(); err == nil || err.Error() != "rewrite spack.yaml: there are values that cannot be written back" {
		t.Errorf("a key that is nothing: %v", err)
	}
	if _, err := parse(t, "spack: {view: true}").Rewrite(spack.Set(1, "view", "a")); err == nil ||
		err.Error() != "rewrite spack.yaml: view:a cannot be set: view is true or false" {
		t.Errorf("a value on the way: %v", err)
	}
	if _, err := parse(t, "spack:").Rewrite(spack.Set(func() {}, "view")); err == nil {
		t.Error("a function can be a value")
	}
	if _, err := parse(t, "spack:").Rewrite(spack.Set(1)); err == nil {
		t.Error("an edit without a path can be made")
	}
}
