package spackmirror

import (
	"os"
	"path/filepath"
	"testing"
)

// The next writer removes partial files of a killed one from the local binary
// cache, but not while another one is active: its files are partial, too.
func TestPartialFilesAreRemovedWithoutWriters(t *testing.T) {
	s := withPackages(t)
	packages := len(manifestsOf(t, s))
	half := filepath.Join(s.Path("buildcache"), "blobs/sha256/aa/half")
	begin := func() func(bool) {
		t.Helper()
		done, err := s.BeginWrite(t.Context())
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
		files, err := filepath.Glob(s.Path("writers") + "/*")
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
	s.RemovePartialFiles(t.Context())
	want(false, "when there is no writer any more")
	if left := writers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// A marker without a lock is one of a killed build.
	leave()
	s.RemovePartialFiles(t.Context())
	want(true, "when no writer was killed")
	if err := os.WriteFile(filepath.Join(s.Path("writers"), "killed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	third := begin()
	want(false, "when the next one begins")
	leave()
	third(false)
	want(false, "when the only writer has failed")
	if left := writers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	// Two that write at once may both have written one package's manifest.
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
	if got := len(manifestsOf(t, s)); got != packages {
		t.Errorf("%d packages are there, want %d", got, packages)
	}
}
