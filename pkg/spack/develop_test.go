package spack

import (
	"maps"
	"slices"
	"testing"
)

// What depends on a developed package has its sources in it, too.
func TestDeveloped(t *testing.T) {
	needs := func(hash string, types DepType) []Dependency { return []Dependency{{Hash: hash, Types: types}} }
	l := &Lock{Specs: Graph{
		"dev":   {Hash: "dev", Variants: map[string]Variant{"dev_path": {Values: []string{"/src"}}}, Dependencies: needs("leaf", Link)},
		"leaf":  {Hash: "leaf"},
		"lib":   {Hash: "lib", Dependencies: needs("dev", Build)},
		"app":   {Hash: "app", Dependencies: needs("lib", Run)},
		"other": {Hash: "other", Dependencies: needs("leaf", Link)},
	}}
	if got, want := slices.Sorted(maps.Keys(l.Developed())), []string{"app", "dev", "lib"}; !slices.Equal(got, want) {
		t.Errorf("developed are %q, want %q", got, want)
	}
}
