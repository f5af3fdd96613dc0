package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
)

func TestStepCachesAreReadAsBuildahAndDockerDo(t *testing.T) {
	for text, want := range map[string]builder.StepCache{
		"reg.example.org/group/cache":                      {Repository: "reg.example.org/group/cache", All: true},
		"docker://reg.example.org:5000/a":                  {Repository: "reg.example.org:5000/a", All: true},
		"type=registry,ref=reg.example.org/a:cache":        {Repository: "reg.example.org/a:cache"},
		"type=registry,ref=reg.example.org/a,mode=max":     {Repository: "reg.example.org/a", All: true},
		"type=local,dest=/var/cache/steps,mode=min":        {Dir: "/var/cache/steps"},
		"type=registry,mode=max,ref=reg.example.org/a:v-1": {Repository: "reg.example.org/a:v-1", All: true},
	} {
		got, err := parseStepCache("cache-to", text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "names nothing", "type=gha": `type "gha" is none`, "type=local,src=/x": "src is not known with type=local", "type=local": "dest=DIR is missing",
		"type=registry": "ref=REPOSITORY is missing", "type=registry,ref=a,mode=all": "mode is min or max", "type=registry,ref=": "is not KEY=VALUE",
		"type=registry,ref=a,ref=b": "twice", "ref=a": `type "" is none`,
	} {
		if _, err := parseStepCache("cache-to", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %q", text, err, want)
		}
	}
}

func TestABuildGetsItsStepCaches(t *testing.T) {
	writeRecipe(t, smallRecipe)
	var got builder.BuildOptions
	a := newTestApp(&fakeEngine{build: func(_ context.Context, _ *builder.Plan, opt builder.BuildOptions) (*builder.Result, error) {
		got = opt
		return &builder.Result{ImageID: fakeID}, nil
	}})
	if code := a.main([]string{"build", "--cache-from", "a.example.org/x", "--cache-from", "type=local,src=d", "--cache-to", "type=registry,ref=a.example.org/x,mode=max"}); code != codeOK {
		t.Fatalf("exit code %d\n%s", code, &a.err)
	}
	if !slices.Equal(got.CacheFrom, []builder.StepCache{{Repository: "a.example.org/x", All: true}, {Dir: "d"}}) || !slices.Equal(got.CacheTo, []builder.StepCache{{Repository: "a.example.org/x", All: true}}) {
		t.Errorf("from %+v, to %+v", got.CacheFrom, got.CacheTo)
	}
}
