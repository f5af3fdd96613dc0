package recipe_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// files returns the test recipes that match a pattern below testdata.
func files(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files match testdata/%s (%v)", pattern, err)
	}
	return names
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mustParse parses a recipe that has to be valid.
func mustParse(t testing.TB, text string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Parse("pdibuild.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, text)
	}
	return r
}

// roundTrip checks that the canonical form means the same as r and is the
// canonical form of itself.
func roundTrip(t testing.TB, r *recipe.Recipe) {
	t.Helper()
	canonical, err := recipe.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := recipe.Parse("canonical", canonical)
	if err != nil {
		t.Fatalf("the canonical form is not valid: %v\n%s", err, canonical)
	}
	if !reflect.DeepEqual(r, again) {
		t.Fatalf("the canonical form means something else:\n%#v\n%#v\n%s", r, again, canonical)
	}
	fixed, err := recipe.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(canonical, fixed) {
		t.Fatalf("the canonical form is not stable:\n%s\n---\n%s", canonical, fixed)
	}
}

func TestValidRecipes(t *testing.T) {
	for _, name := range files(t, "valid/*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			r, err := recipe.LoadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Validate(); err != nil {
				t.Errorf("Validate finds what Parse did not: %v", err)
			}
			roundTrip(t, r)
		})
	}
}

func TestScalarsAreTakenAsWritten(t *testing.T) {
	r, err := recipe.LoadFile("testdata/valid/plain_scalars.yaml")
	if err != nil {
		t.Fatal(err)
	}
	st := r.Stages[0]
	file, cp := st.Steps[0].(recipe.File), st.Steps[1].(recipe.Copy)
	for want, got := range map[string]string{
		"1.10": r.Args["MAJOR"], "08": r.Args["JOBS"], "yes": r.Args["FAST"],
		"2024.1": st.Name, "1": st.Env["OMP_NUM_THREADS"], "0x1F": st.Env["HEX"], "true": st.Env["DEBUG"],
		"0644": file.Mode, "42": file.Content, "0755": cp.Mode, "0": cp.Owner,
		"1.0": st.Labels["version"], "2026-01-01": st.Labels["when"],
		"8080": st.Expose[0], "53/udp": st.Expose[1], "15": st.StopSignal,
	} {
		if got != want {
			t.Errorf("got %q, want %q as it is written", got, want)
		}
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	text := "version: 1\nstages:\n  - name: a\n    from: scratch\n"
	want := mustParse(t, text)
	for _, same := range []string{"\xef\xbb\xbf" + text, strings.ReplaceAll(text, "\n", "\r\n"), "---\n" + text + "...\n"} {
		if got := mustParse(t, same); !reflect.DeepEqual(got, want) {
			t.Errorf("%q parses to %+v", same, got)
		}
	}
}

// What Spack would read as another version, or we as another type, stays the
// text that it is.
func TestInlineEnvironmentKeepsValues(t *testing.T) {
	r, err := recipe.LoadFile("testdata/valid/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	spack := r.Stage("spack").Steps[0].(recipe.Spack).Spack.Inline["spack"].(map[string]any)
	want := map[string]any{
		"connect_timeout": "1e3", "ratio": "2.0", "when": "2026-01-01", "big": int64(16), "none": nil, "yes": "no",
	}
	if got := spack["config"]; !reflect.DeepEqual(got, want) {
		t.Errorf("config is %#v, want %#v", got, want)
	}
	version := spack["packages"].(map[string]any)["hdf5"].(map[string]any)["version"]
	if want := []any{"1.10", "1.2.3"}; !reflect.DeepEqual(version, want) {
		t.Errorf("the versions are %#v, want %#v", version, want)
	}
}
