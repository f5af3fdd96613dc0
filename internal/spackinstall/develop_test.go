package spackinstall

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A fakeContext is a build context in memory.
type fakeContext map[string]string

func (fakeContext) Dir() string { return "/context" }

func (c fakeContext) ReadFile(name string) ([]byte, error) {
	if text, ok := c[path.Clean(name)]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func (c fakeContext) Files(name string, exclude ...string) (Files, error) {
	name = path.Clean(name)
	f := fakeFiles{name: name, content: map[string]string{}}
	for file, text := range c {
		rel := "."
		if file != name {
			var ok bool
			if rel, ok = strings.CutPrefix("./"+file, path.Join("./", name)+"/"); !ok && name != "." {
				if rel, ok = strings.CutPrefix(file, name+"/"); !ok {
					continue
				}
			}
			rel = strings.TrimPrefix(rel, "./")
		}
		if !slices.ContainsFunc(exclude, func(p string) bool {
			ok, _ := path.Match(p, rel)
			return ok || strings.HasPrefix(rel, p+"/")
		}) {
			f.content[rel] = text
		}
	}
	if len(f.content) == 0 {
		return nil, &failure.InputError{Subject: "copy " + name, Err: fs.ErrNotExist}
	}
	return f, nil
}

type fakeFiles struct {
	name    string
	content map[string]string
}

func (f fakeFiles) Names() []string {
	var names []string
	for name := range f.content {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f fakeFiles) Key() string {
	var key string
	for _, name := range f.Names() {
		key += name + "=" + f.content[name] + ";"
	}
	return key
}

func (fakeFiles) Write(*rootfs.Root, string) error { return errors.New("not written") }
func (f fakeFiles) String() string                 { return f.name }

func readInputs(t *testing.T, c fakeContext, environment string) *Inputs {
	t.Helper()
	in, err := ReadInputs(c, recipe.SpackInstall{Environment: environment})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// targets are where files go, below the environment's directory.
func targets(list []placed) (names []string) {
	for _, p := range list {
		for _, name := range p.files.Names() {
			names = append(names, path.Join(p.target, name))
		}
	}
	return names
}

const developYAML = "spack:\n  specs: [app]\n  develop:\n    app: {spec: app@=main, path: PATH}\n"

// Sources of develop come along, and count.
func TestSourcesOfDevelop(t *testing.T) {
	for name, c := range map[string]struct {
		context     fakeContext
		environment string
		path        string
		want        []string
		moved       bool
	}{
		"below":       {fakeContext{"src/app.c": "1"}, "spack.yaml", "src", []string{"src/app.c"}, false},
		"variable":    {fakeContext{"src/app.c": "1"}, "spack.yaml", "$env/src", []string{"src/app.c"}, false},
		"by its name": {fakeContext{"app/app.c": "1"}, "spack.yaml", "", []string{"app/app.c"}, false},
		"the checkout": {
			fakeContext{"app.c": "1", ".git/index": "stat", ".git/HEAD": "main", ".git/logs/HEAD": "1", "spack.lock": ""},
			"spack.yaml", ".",
			[]string{".git/HEAD", "app.c", ".git/index"},
			false,
		},
		"above":        {fakeContext{"app.c": "1"}, "ci/spack.yaml", "..", []string{"develop/app/app.c"}, true},
		"in the image": {fakeContext{"src/app.c": "1"}, "spack.yaml", "/opt/src", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(developYAML, "PATH", c.path, 1)
			if c.path == "" {
				text = strings.Replace(developYAML, ", path: PATH", "", 1)
			}
			c.context[c.environment] = text
			delete(c.context, "spack.lock") // it is made beside a checkout
			in := readInputs(t, c.context, c.environment)
			if got := targets(in.sources); !slices.Equal(got, c.want) || (len(in.moved) > 0) != c.moved {
				t.Errorf("sources are %q, want %q; moved: %v", got, c.want, in.moved)
			}
		})
	}
}

// A change of the sources is another step with the same packages; what Git writes
// when it only looks is no change.
func TestKeyOfDevelopedSources(t *testing.T) {
	c := fakeContext{"spack.yaml": strings.Replace(developYAML, "PATH", ".", 1), "app.c": "1", ".git/index": "1", ".git/HEAD": "main"}
	before := readInputs(t, c, "spack.yaml")
	c[".git/index"], c[".git/logs/HEAD"] = "2", "2"
	if looked := readInputs(t, c, "spack.yaml"); looked.Key != before.Key {
		t.Error("the index of Git counts")
	}
	c["app.c"] = "2"
	changed := readInputs(t, c, "spack.yaml")
	if changed.Key == before.Key {
		t.Error("changed sources do not count")
	}
	if changed.LockKey != before.LockKey {
		t.Error("changed sources change what Spack concretizes to")
	}
	plain := readInputs(t, fakeContext{"spack.yaml": "spack: {specs: [app]}"}, "spack.yaml")
	if plain.Key != plain.LockKey {
		t.Error("without develop, the keys differ")
	}
}

func TestSourcesOutsideOfTheContext(t *testing.T) {
	c := fakeContext{"spack.yaml": strings.Replace(developYAML, "PATH", "../app", 1), "app/app.c": "another one"}
	_, err := ReadInputs(c, recipe.SpackInstall{Environment: "spack.yaml"})
	if err == nil || !strings.Contains(err.Error(), "../app is outside of the build context") {
		t.Errorf("got %v", err)
	}
}
