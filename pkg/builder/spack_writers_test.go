package builder

import (
	"os"
	"path/filepath"
	"testing"
)

// What a killed writer has left in the local binary cache is removed by the next
// one, but not while somebody else writes: half a package of theirs is on its way.
func TestHalvesGoWhenNobodyWrites(t *testing.T) {
	b := withPackages(t)
	packages := len(manifestsOf(t, b))
	half := filepath.Join(b.spackCache("buildcache"), "blobs/sha256/aa/half")
	begin := func() func(bool) {
		t.Helper()
		done, err := b.writePackages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	leave := func() {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(half), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(half, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(there bool, when string) {
		t.Helper()
		if _, err := os.Stat(half); (err == nil) != there {
			t.Errorf("%s, the half file is there: %v, want %v", when, err == nil, there)
		}
	}
	writers := func() []string {
		t.Helper()
		files, err := filepath.Glob(b.spackCache("writers") + "/*")
		if err != nil {
			t.Fatal(err)
		}
		return files
	}

	first, second := begin(), begin()
	leave()
	first(false)
	want(true, "while another one writes")
	second(true)
	b.clearPackages(t.Context())
	want(false, "when nobody writes any more")
	if left := writers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// A file that nobody holds is one of a killed build.
	leave()
	b.clearPackages(t.Context())
	want(true, "when nobody was killed")
	if err := os.WriteFile(filepath.Join(b.spackCache("writers"), "killed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	third := begin()
	want(false, "when the next one begins")
	leave()
	third(false)
	want(false, "when somebody has failed, and nobody else writes")
	if left := writers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// Two that write at once may have mixed their manifests of one package.
	first, second = begin(), begin()
	leave()
	first(true)
	want(true, "while the second one writes")
	second(true)
	begin()(true)
	want(false, "after two have written at once")
	if left := writers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := len(manifestsOf(t, b)); got != packages {
		t.Errorf("%d packages are there, want %d", got, packages)
	}
}
