package spack_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// addFiles makes a seed of each file of the test data whose name has the
// suffix.
func addFiles(f *testing.F, suffix string) {
	f.Helper()
	found := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) || strings.Contains(path, "fuzz") {
			return err
		}
		data, err := os.ReadFile(path)
		found++
		f.Add(data)
		return err
	})
	if err != nil || found == 0 {
		f.Fatal(suffix, err)
	}
}

// What can be read can be rewritten, and the rewritten can be read and says
// what it should.
func FuzzEnvironment(f *testing.F) {
	addFiles(f, "spack.yaml")
	for _, text := range []string{
		tutorial, "", "spack:", "spack: {}", "spack: &a {config: *a}", "spack:\n  config: &a {x: |\n    y\n   # z\n  }\n", "- 1",
		"spack:\n  ? [a]\n  : b\n", "spack:\n  view: !!binary x\n", "spack: {packages:: {a: >-\n  b\n\n  c}}", "%YAML 1.1\n---\nspack: {a: yes}\n",
		"spack:\n  # one\n\n  # two\n  a: 1 # three\n\n  # four\n", "\xef\xbb\xbfspack:\n", "spack: {a: &x 1, b: *x, x+: 1, y-: 2}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := spack.ParseEnvironment("f", data)
		if err != nil {
			return
		}
		if e.Container != nil {
			if _, err := e.Container.Base(); err != nil && err.Error() == "" {
				t.Error("an error without a message")
			}
		}
		out, err := e.Rewrite(spack.Remove("container"), spack.Set("/v", "view"), spack.Remove("config"), spack.Set(7, "config", "install_tree", "padded_length"))
		if err != nil {
			return // such as values that YAML cannot have
		}
		again, err := spack.ParseEnvironment("g", out)
		if err != nil {
			t.Fatalf("%v\nin %q\nof %q", err, out, data)
		}
		if again.Container != nil || again.View.Path != "/v" || again.InstallTree.PaddedLength != 7 || len(again.Specs) != len(e.Specs) {
			t.Fatalf("%q became %q", data, out)
		}
		if !reflect.DeepEqual(again.Mirrors, e.Mirrors) || !reflect.DeepEqual(again.Repos, e.Repos) {
			t.Fatalf("%q became %q", data, out)
		}
	})
}

// A lock that can be read has a closure.
func FuzzLock(f *testing.F) {
	addFiles(f, ".lock")
	f.Add([]byte(lockText(6, `{"hash": "`+hashA+`"}`, node(hashA, "a", hashB)+","+node(hashB, "b"), `, "include_concrete": {"x": {"include_concrete": {}}}`)))
	f.Add([]byte(lockText(4, "", node(hashA, "a"), "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := spack.ParseLock("f", data)
		if err != nil {
			return
		}
		all, err := l.Closure()
		if err != nil {
			t.Fatal(err)
		}
		running, err := l.Closure(spack.Link, spack.Run)
		if err != nil || len(running) > len(all) || len(all) > len(l.Specs) {
			t.Fatalf("%v: %d of %d of %d", err, len(running), len(all), len(l.Specs))
		}
		seen := map[string]bool{}
		for _, s := range all {
			for _, d := range s.Dependencies {
				if !seen[d.Hash] && d.Types != 0 {
					t.Fatalf("%s comes before %s", s, d.Name)
				}
			}
			seen[s.Hash] = true
			l.Specs.Compilers(s)
		}
	})
}

func FuzzDatabase(f *testing.F) {
	addFiles(f, "database.json")
	addFiles(f, "index.json")
	f.Add([]byte(`{"database": {"version": "8", "installs": {"` + hashA + `": {"spec": {"name": "a", "version": "1"}, "installation_time": 1e300}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		db, err := spack.ReadDatabase(bytes.NewReader(data))
		x, xErr := spack.ReadIndex(bytes.NewReader(data))
		if (err == nil) != (xErr == nil) {
			t.Fatalf("as a database: %v, as an index: %v", err, xErr)
		}
		if err != nil {
			return
		}
		if len(db.Sorted()) != len(x.Specs) || len(db.Graph()) != len(x.Specs) {
			t.Fatalf("%d and %d packages", len(db.Installs), len(x.Specs))
		}
	})
}

// The paths that come from manifests and specs stay where they belong.
func FuzzManifest(f *testing.F) {
	addFiles(f, ".manifest.json")
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n\n{}\n-----BEGIN PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := spack.ParseManifest("f", data)
		if err != nil {
			return
		}
		for _, b := range m.Blobs {
			if p := b.Path(); !filepath.IsLocal(p) || filepath.Clean(p) != p || !strings.HasPrefix(p, "blobs/sha") {
				t.Fatalf("a blob is at %q", p)
			}
		}
		m.Package()
		m.Spec()
		m.Index()
	})
}

func FuzzSpecFile(f *testing.F) {
	addFiles(f, ".spec.json")
	addFiles(f, "config.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := spack.ParseSpecFile("f", data)
		if err != nil {
			return
		}
		for _, spec := range s.Specs {
			if p := spack.ManifestPath(spec); !filepath.IsLocal(p) || filepath.Clean(p) != p {
				t.Fatalf("the manifest is at %q", p)
			}
			if hash, ok := spack.TagHash(spack.Tag(spec)); !ok || hash != spec.Hash {
				t.Fatalf("%s has the tag %q", spec, spack.Tag(spec))
			}
		}
	})
}

// It does not matter in which pieces the output comes.
func FuzzOutput(f *testing.F) {
	addFiles(f, ".log")
	f.Add([]byte("[x] abcdefg a@1 failed\n-- lines 1 to 2 --\n> x\n==> Error: The following packages failed to install:\na@1/abcdefg: /x\n"))
	f.Add([]byte("==> Error: \n\n==> Error: x\nSee build log for details:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		run := func(size int) ([]spack.Event, []spack.Failure) {
			var list []spack.Event
			o := &spack.Output{Handle: func(e spack.Event) { list = append(list, e) }}
			for i := 0; i < len(data); i += size {
				part := data[i:min(i+size, len(data))]
				if n, err := o.Write(part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			return list, o.Failures()
		}
		one, oneFailures := run(len(data) + 1)
		other, otherFailures := run(3)
		if !reflect.DeepEqual(one, other) || !reflect.DeepEqual(oneFailures, otherFailures) {
			t.Fatalf("%+v is not %+v", one, other)
		}
	})
}

func FuzzActivation(f *testing.F) {
	addFiles(f, ".sh")
	f.Add([]byte("export A='b'\"'\"\\'c;if x\nfi\nunset A;"))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := map[string]string{"PATH": "/bin", "A": "b"}
		a, err := spack.ParseActivation("f", data, base)
		if err != nil {
			return
		}
		absolute, err := spack.ParseActivation("f", data, nil)
		if err != nil {
			t.Fatal(err)
		}
		// An addition is what has been set, if each variable changes once.
		seen := map[string]bool{}
		for i, c := range a {
			if seen[c.Name] || absolute[i].Name != c.Name {
				return
			}
			seen[c.Name] = true
		}
		env, want := map[string]string{"PATH": "/bin", "A": "b"}, map[string]string{"PATH": "/bin", "A": "b"}
		a.Apply(env)
		absolute.Apply(want)
		if !reflect.DeepEqual(env, want) {
			t.Fatalf("%q makes %q, not %q", data, env, want)
		}
	})
}
