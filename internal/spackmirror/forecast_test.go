package spackmirror

import (
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// app links with lib, which tool builds.
func smallLock() *spack.Lock {
	specs := spack.Graph{}
	for _, s := range []*spack.Spec{
		{Name: "app", Version: "1", Hash: "aaaaaaaaaa", Dependencies: []spack.Dependency{{Hash: "llllllllll", Types: spack.Link}, {Hash: "gcc", Types: spack.Build}}},
		{Name: "lib", Version: "2", Hash: "llllllllll", Dependencies: []spack.Dependency{{Hash: "tttttttttt", Types: spack.Build}}},
		{Name: "tool", Version: "3", Hash: "tttttttttt"},
		{Name: "gcc", Version: "4", Hash: "gcc", External: &spack.External{Path: "/usr"}},
	} {
		specs[s.Hash] = s
	}
	return &spack.Lock{Roots: []spack.Root{{Hash: "aaaaaaaaaa"}}, Specs: specs}
}

func TestForecastOfCaches(t *testing.T) {
	for _, c := range []struct {
		local, mirror string
		want          string
		compile       string
	}{
		{"", "", "of these 3 specs, 0 are in the cache (0 B), 3 will compile", "app@1/aaaaaaa lib@2/lllllll tool@3/ttttttt"},
		{"llllllllll", "", "of these 2 specs, 1 are in the cache (0 B), 1 will compile", "app@1/aaaaaaa"},
		{"tttttttttt", "aaaaaaaaaa", "of these 3 specs, 2 are in the cache (0 B), 1 will compile", "lib@2/lllllll"},
		{"aaaaaaaaaa", "llllllllll", "of these 2 specs, 2 are in the cache (0 B), 0 will compile", ""},
	} {
		sources := []*Source{{Has: map[string]bool{c.local: true}}, {Has: map[string]bool{c.mirror: true}}}
		f := NewForecast(Missing(smallLock(), sources, nil), sources)
		if f.String() != c.want || strings.Join(f.Compile, " ") != c.compile {
			t.Errorf("with %q here and %q there: %s: %v, want %s: %s", c.local, c.mirror, f, f.Compile, c.want, c.compile)
		}
	}
	upstream := map[string]string{"llllllllll": "/opt/site/lib"}
	if f := NewForecast(Missing(smallLock(), nil, upstream), nil); f.String() != "of these 1 specs, 0 are in the cache (0 B), 1 will compile" {
		t.Errorf("with lib in an upstream: %s", f)
	}
	part := &Forecast{Known: true, Specs: 209, Cached: 180, Bytes: 1_234_000_000, FetchBytes: 310_400_000, Compile: make([]string, 29)}
	if got, want := part.String(), "of these 209 specs, 180 are in the cache (1.23 GB, 310 MB of it at a mirror), 29 will compile"; got != want {
		t.Errorf("the forecast is %q, want %q", got, want)
	}
	if got := (&Forecast{Hint: "build once"}).String(); got != "what will be compiled is not known yet: build once" {
		t.Errorf("the forecast is %q", got)
	}
}

// What the recipe says goes before what the host has.
func TestMirrorCredentials(t *testing.T) {
	variables := map[string]string{"USER_OF_MIRROR": "ann", "PASSWORD_OF_MIRROR": "hers", "TOKEN_OF_MIRROR": "a token"}
	pair := spack.Connection{IDVariable: "USER_OF_MIRROR", SecretVariable: "PASSWORD_OF_MIRROR"}
	m := &Mirrors{Variable: func(name string) string { return variables[name] }, Secrets: map[string][]byte{"user": []byte("bob\n"), "password": []byte("his\n")}}
	if c := m.credential(pair); c.Username != "ann" || c.Password != "hers" {
		t.Errorf("the variables give %+v", c)
	}
	if c := m.credential(spack.Connection{TokenVariable: "TOKEN_OF_MIRROR"}); c.AccessToken != "a token" {
		t.Errorf("the variable gives %+v", c)
	}
	m.Settings = &recipe.Buildcache{Username: "user", Password: "password"}
	if c := m.credential(pair); c.Username != "bob" || c.Password != "his" {
		t.Errorf("the secrets give %+v", c)
	}
	m.Variable = nil
	if c := m.credential(spack.Connection{ID: "eve", TokenVariable: "TOKEN_OF_MIRROR"}); c.AccessToken != "" || c.Username != "bob" {
		t.Errorf("without variables: %+v", c)
	}
}
