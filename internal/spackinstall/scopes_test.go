package spackinstall

import (
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// Includes are followed as Spack follows them: what they name comes along, beside
// what names it.
func TestIncludes(t *testing.T) {
	for name, c := range map[string]struct {
		context fakeContext
		include string
		want    []string // files beside the environment
		err     string
	}{
		"a file and a directory": {
			fakeContext{"p.yaml": "packages: {}", "conf/config.yaml": "config: {}"},
			"[p.yaml, {path: conf}]",
			[]string{"p.yaml", "conf/config.yaml"},
			"",
		},
		"optional, or with a condition": {
			fakeContext{"p.yaml": "packages: {}"},
			"[{path: no.yaml, optional: true}, {path: never.yaml, when: 'False'}, {path: p.yaml, optional: true}]",
			[]string{"p.yaml"},
			"",
		},
		"required":             {fakeContext{}, "[no.yaml]", nil, "no.yaml"},
		"outside":              {fakeContext{"p.yaml": "packages: {}"}, "[../p.yaml]", nil, "../p.yaml is outside of the build context"},
		"what Spack finds":     {fakeContext{}, "[/etc/site, $spack/site, ~/site, 'https://example.org/p.yaml', {git: 'https://example.org/x.git', branch: main, paths: [p.yaml]}]", nil, ""},
		"nested":               {fakeContext{"conf/include.yaml": "include: [../more/p.yaml, $env/q.yaml]", "more/p.yaml": "include: [r.yaml]", "more/r.yaml": "packages: {}", "q.yaml": "packages: {}"}, "[conf]", []string{"conf/include.yaml", "more/p.yaml", "more/r.yaml", "q.yaml"}, ""},
		"a repository of one":  {fakeContext{"conf/repos.yaml": "repos: {x: ../repo}", "repo/repo.yaml": "repo: {}"}, "[conf]", []string{"conf/repos.yaml", "repo/repo.yaml"}, ""},
		"a circle":             {fakeContext{"a.yaml": "include: [b.yaml]", "b.yaml": "include: [a.yaml]"}, "[a.yaml]", []string{"a.yaml", "b.yaml"}, ""},
		"not in this one":      {fakeContext{"conf/include.yaml": "include: [{path: no, optional: true}]"}, "[conf]", []string{"conf/include.yaml"}, ""},
		"not a configuration":  {fakeContext{"conf/mirrors.yaml": "["}, "[conf]", []string{"conf/mirrors.yaml"}, ""},
		"nested and required":  {fakeContext{"conf/include.yaml": "include: [no.yaml]"}, "[conf]", nil, "conf/no.yaml"},
		"a lock is no section": {fakeContext{"other/spack.lock": "{}"}, "[other/spack.lock]", []string{"other/spack.lock"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.context["spack.yaml"] = "spack: {specs: [app], include: " + c.include + "}"
			in, err := ReadInputs(c.context, recipe.SpackInstall{Environment: "spack.yaml"})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := targets(in.beside)
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("beside are %q, want %q", got, c.want)
			}
		})
	}
}

// A file that is only named by an included one counts, and one that appears.
func TestNestedIncludeCounts(t *testing.T) {
	c := fakeContext{"spack.yaml": "spack: {include: [conf]}", "conf/include.yaml": "include: [../p.yaml, {path: o.yaml, optional: true}]", "p.yaml": "packages: {}"}
	keys := map[string]bool{readInputs(t, c, "spack.yaml").Key: true}
	c["p.yaml"] = "packages: {all: {require: ['@1']}}"
	keys[readInputs(t, c, "spack.yaml").Key] = true
	c["conf/o.yaml"] = "packages: {}"
	keys[readInputs(t, c, "spack.yaml").Key] = true
	if len(keys) != 3 {
		t.Errorf("3 configurations have %d keys", len(keys))
	}
}

// Mirrors of scopes are the environment's; a relative path is seen from the file
// that names it.
func TestMirrorsOfScopes(t *testing.T) {
	c := fakeContext{
		"env/spack.yaml":         "spack:\n  mirrors: {own: ./bc, both: oci://h/env}\n  include: [conf, {path: maybe.yaml, when: 'os == x'}]\n",
		"env/conf/mirrors.yaml":  "mirrors:\n  both: oci://h/conf\n  scope: {url: ../../shared, push: oci://h/push}\n  far: {url: $env/far}\n",
		"env/maybe.yaml":         "mirrors: {perhaps: oci://h/perhaps}\n",
		"site/mirrors.yaml":      "mirrors: {scope: oci://h/never, site: file:///site}\n",
		"site/upstreams.yaml":    "upstreams: {}\n",
		"site/not-a-section.txt": "",
	}
	in, err := ReadInputs(c, recipe.SpackInstall{
		Environment: "env/spack.yaml", Scopes: []string{"site"}, Buildcache: &recipe.Buildcache{Push: []string{"scope", "perhaps"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range in.mirrors {
		got = append(got, m.Name+" "+m.Fetch.URL+" "+m.Push.URL)
	}
	want := []string{
		"own /context/env/bc /context/env/bc", "both oci://h/env oci://h/env",
		"scope /context/shared oci://h/push", "far /context/env/far /context/env/far", "site file:///site file:///site",
	}
	if !slices.Equal(got, want) {
		t.Errorf("mirrors are\n%q, want\n%q", got, want)
	}
	if !in.unseen || len(in.perhaps) != 1 || !in.mayHaveUpstreams(recipe.SpackInstall{}) {
		t.Errorf("a condition is Spack's to decide: %v, %v", in.unseen, in.perhaps)
	}
	delete(c, "env/maybe.yaml")
	c["env/spack.yaml"] = "spack: {include: [conf]}"
	_, err = ReadInputs(c, recipe.SpackInstall{Environment: "env/spack.yaml", Buildcache: &recipe.Buildcache{Push: []string{"perhaps"}}})
	if err == nil || !strings.Contains(err.Error(), `no mirror "perhaps"`) {
		t.Errorf("got %v", err)
	}
}
