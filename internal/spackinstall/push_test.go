package spackinstall

import (
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A listener is a step that only takes events.
type listener struct {
	Step
	texts []string
}

func (l *listener) Emit(e progress.Event) { l.texts = append(l.texts, e.Text) }

// A mirror with autopush gets packages without being named, but none unsigned that
// takes signed ones.
func TestAutopush(t *testing.T) {
	no, yes := false, true
	at := func(name, url string, signed *bool) spack.Mirror {
		return spack.Mirror{Name: name, Push: spack.Connection{URL: url}, Signed: signed, Autopush: true, Binary: true}
	}
	plain := at("plain", "oci://h/plain", nil)
	plain.Autopush = false
	sources := at("sources", "/sources", &no)
	sources.Binary = false
	all := []spack.Mirror{
		at("registry", "oci://h/r", nil), at("dir", "/cache", &no), at("signed", "/signed", &yes), at("default", "https://h/c", nil),
		at("named", "oci://h/n", nil), plain, sources,
	}
	for _, unsigned := range []bool{false, true} {
		l := &listener{}
		j := &Job{step: l, mirrors: all, Settings: Settings{Recipe: recipe.SpackInstall{Buildcache: &recipe.Buildcache{Push: []string{"named"}, Unsigned: unsigned}}}}
		named, err := pushedTo(j.Recipe, j.mirrors, false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range j.autopush(named) {
			got = append(got, m.Name)
		}
		want := []string{"registry", "dir"}
		if unsigned {
			want = []string{"registry", "dir", "signed", "default"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("unsigned: %v: pushed to %q, want %q", unsigned, got, want)
		}
		if warned := strings.Contains(strings.Join(l.texts, "\n"), "mirror signed has autopush and takes signed packages"); warned == unsigned {
			t.Errorf("unsigned: %v: the warnings are %q", unsigned, l.texts)
		}
	}
}

// The image of the packages has roots only that can run with what is pushed.
func TestNotPushed(t *testing.T) {
	j := &Job{lock: &spack.Lock{Specs: spack.Graph{
		"app":  {Hash: "app", Name: "app", Dependencies: []spack.Dependency{{Hash: "lib", Types: spack.Link}, {Hash: "tool", Types: spack.Build}}},
		"lib":  {Hash: "lib", Name: "lib"},
		"tool": {Hash: "tool", Name: "tool"},
	}}}
	if s := j.notPushed("app", []string{"app", "lib"}); s != nil {
		t.Errorf("%s is missing, which only the build needs", s)
	}
	if s := j.notPushed("app", []string{"app", "tool"}); s == nil || s.Name != "lib" {
		t.Errorf("missing is %v, want lib", s)
	}
}
