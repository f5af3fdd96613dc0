package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// configure writes the user's configuration file and returns its name.
func (a *testApp) configure(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	a.env["XDG_CONFIG_HOME"] = dir
	file := filepath.Join(dir, "pdibuild", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestABuildGetsTheLimitsOfTheConfiguration(t *testing.T) {
	writeRecipe(t, smallRecipe)
	a := newTestApp(&fakeEngine{})
	a.configure(t, "cache:\n  keep: 20GB\n  older: 30d\n")
	if code := a.main([]string{"build"}); code != codeOK {
		t.Fatalf("exit code %d\n%s", code, &a.err)
	}
	want := builder.CacheLimits{Keep: 20e9, Older: 30 * 24 * time.Hour}
	if got := a.opened[0].Limits; got != want {
		t.Errorf("limits %v, want %v", got, want)
	}
}

func TestAWrongConfigurationIsToldWithItsPlace(t *testing.T) {
	for text, want := range map[string][]string{
		"cache:\n  kepp: 20GB\n":              {"config.yaml:2:3: unknown key \"kepp\"", `did you mean "keep"?`, "| "},
		"cache:\n  keep: plenty\n":            {"config.yaml:2:9:", `"plenty" is not a size`},
		"cache:\n  keep: 20\n":                {"config.yaml:2:9:", `"20" has no unit: write 20GB`},
		"cache:\n  older: [1]\n":              {"config.yaml:2:10:", "expected one value"},
		"cache: 20GB\n":                       {"config.yaml:1:8:", "expected keys: keep, older"},
		"cache:\n  keep: 1GB\n  keep: 2GB\n":  {"config.yaml:3:3:", "keep is here twice"},
		"cache: {keep: 1GB\n":                 {"config.yaml:"},
		"cache:\n  older: -3d\n":              {"config.yaml:2:10:", "is not a duration"},
		"cache:\n  keep: 1GB\n  old: x\nb: 1": {"config.yaml:3:3:", "config.yaml:4:1:"},
	} {
		writeRecipe(t, smallRecipe)
		a := newTestApp(&fakeEngine{})
		a.configure(t, text)
		if code := a.main([]string{"build"}); code != codeUsage {
			t.Errorf("%q: exit code %d, want %d\n%s", text, code, codeUsage, &a.err)
		}
		for _, w := range want {
			if !strings.Contains(a.err.String(), w) {
				t.Errorf("%q: the message does not say %q:\n%s", text, w, &a.err)
			}
		}
		if len(a.opened) > 0 {
			t.Errorf("%q: the store was opened", text)
		}
	}
}

func TestCachePruneFlags(t *testing.T) {
	for _, c := range []struct {
		args   string
		config string
		want   builder.PruneOptions
	}{
		{"", "", builder.PruneOptions{}},
		{"", "cache: {keep: 1GB}", builder.PruneOptions{CacheLimits: builder.CacheLimits{Keep: 1e9}}},
		{"--all", "cache: {keep: 1GB}", builder.PruneOptions{All: true}},
		{"--keep 20GB --older 30d --all --dry-run", "", builder.PruneOptions{CacheLimits: builder.CacheLimits{Keep: 20e9, Older: 720 * time.Hour}, All: true, DryRun: true}},
		{"--keep 0", "", builder.PruneOptions{CacheLimits: builder.CacheLimits{Keep: 1}}},
	} {
		e := &fakeEngine{entries: []builder.CacheEntry{{Kind: builder.CachePackage, ID: "abcdefghij", Text: "zlib@1.3", Size: 7}}}
		a := newTestApp(e)
		a.configure(t, c.config)
		if code := a.main(append([]string{"cache", "prune"}, strings.Fields(c.args)...)); code != codeOK {
			t.Fatalf("%s: exit code %d\n%s", c.args, code, &a.err)
		}
		if len(e.pruned) != 1 || e.pruned[0] != c.want {
			t.Errorf("%s: %+v, want %+v", c.args, e.pruned, c.want)
		}
		if a.out.String() != "package abcdefg 7 B zlib@1.3\n" {
			t.Errorf("%s: stdout %q", c.args, &a.out)
		}
	}
}

// A number alone is refused: 20 would be 20 bytes, so that all would go.
func TestCachePruneNeedsUnits(t *testing.T) {
	for args, want := range map[string]string{
		"--keep lots": `"lots" is not a size`, "--keep 20": `"20" has no unit: write 20GB`, "--older 30": `"30" is not a duration; write 30d, 12h or 4w`,
	} {
		e := &fakeEngine{}
		a := newTestApp(e)
		if code := a.main(append([]string{"cache", "prune"}, strings.Fields(args)...)); code != codeUsage || !strings.Contains(a.err.String(), want) || len(e.pruned) > 0 {
			t.Errorf("%s: exit code %d\n%s", args, code, &a.err)
		}
	}
}

func TestCacheVerifyFailsWhenSomethingWasDamaged(t *testing.T) {
	a := newTestApp(&fakeEngine{})
	if code := a.main([]string{"cache", "verify"}); code != codeOther || a.out.String() != "step 123: its files have another digest\n" {
		t.Errorf("exit code %d, stdout %q\n%s", code, &a.out, &a.err)
	}
}
