package spack_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// What is installed is what the lock says, in the place that padding makes.
func TestDatabase(t *testing.T) {
	for _, version := range versions() {
		db, err := spack.ReadDatabase(bytes.NewReader(readFile(t, "testdata", version, "database.json")))
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		l := lock(t, "testdata", version, "spack.lock")
		explicit := map[string]bool{}
		for _, r := range l.Roots {
			explicit[r.Hash] = true
		}
		for _, i := range db.Sorted() {
			s := i.Spec
			want := l.Specs[s.Hash]
			if want == nil || want.String() != s.String() || !i.Installed || i.Explicit != explicit[s.Hash] {
				t.Errorf("%s: %s: %+v", version, s, i)
			}
			if i.Time.Year() < 2020 || i.RefCount > len(db.Installs) || i.DeprecatedFor != "" {
				t.Errorf("%s: %s: %+v", version, s, i)
			}
			if s.External != nil {
				if i.Prefix != "/usr" {
					t.Errorf("%s: %s is in %q", version, s, i.Prefix)
				}
			} else if filepath.Base(i.Prefix) != fmt.Sprintf("%s-%s-%s", s.Name, s.Version, s.Hash) || !strings.Contains(i.Prefix, "__spack_path_") {
				t.Errorf("%s: %s is in %q", version, s, i.Prefix)
			}
		}
		if len(db.Installs) != len(l.Specs) {
			t.Errorf("%s: %d are installed of %d", version, len(db.Installs), len(l.Specs))
		}
		specs, err := db.Graph().Closure([]string{l.Roots[0].Hash}, spack.Run)
		if err != nil || specs[0].Name != "hello-lib" {
			t.Errorf("%s: %s, %v", version, names(specs), err)
		}
	}
}

func TestDatabaseErrors(t *testing.T) {
	record := `"` + hashA + `": {"spec": {"name": "a", "version": "1"}}`
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"", "ends too early"},
		"list":      {"[]", "an object was expected, not ["},
		"other":     {"{}", "this is not a database of Spack: it has no database:version"},
		"truncated": {`{"database": {"version": "8", "installs": {` + record, "ends too early"},
		"record":    {`{"database": {"version": "8", "installs": {"a": 1}}}`, "record a: is not JSON: json: cannot unmarshal number into Go value of type spack.recordJSON"},
		"no spec":   {`{"database": {"version": "8", "installs": {"a": {}}}}`, "the record a has no spec"},
		"hash":      {`{"database": {"version": "8", "installs": {"a": {"spec": {"name": "a"}}}}}`, `"a" is not a hash`},
		"old":       {`{"database": {"version": "5", "installs": {}}}`, `has version "5" of the format; 6 to 8 are known`},
		"new":       {`{"database": {"version": "9.1"}}`, `has version "9.1" of the format; 6 to 8 are known`},
	} {
		_, err := spack.ReadDatabase(strings.NewReader(c.text))
		if want := "install database: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, want)
		}
	}
	db, err := spack.ReadDatabase(strings.NewReader(`{"x": [1], "database": {"y": {}, "version": "8", "installs": {` + record + `}}}`))
	if err != nil || db.Installs[hashA].Spec.Name != "a" || db.Installs[hashA].Installed {
		t.Errorf("unknown keys: %+v, %v", db, err)
	}
}

func TestSampleDatabase(t *testing.T) {
	db, err := spack.ReadDatabase(bytes.NewReader(readFile(t, samples(t), "pdi", "install-db.index.json")))
	if err != nil {
		t.Fatal(err)
	}
	l := lock(t, samples(t), "pdi", "spack.lock")
	for hash, s := range l.Specs {
		if i := db.Installs[hash]; i == nil || i.Spec.Name != s.Name {
			t.Errorf("%s: %+v", s, i)
		}
	}
}
