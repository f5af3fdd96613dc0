package spack_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// tutorial has what an environment for a course typically has.
const tutorial = `# What the course needs.
spack:
  # Everything is linked into one place.
  view: true
  concretizer:
    unify: true
  specs:
  - cmake
  - pdi~fortran # no Fortran here
  - matrix:
    - [hdf5, netcdf-c]
    - ['+mpi', ~mpi]
    exclude: [netcdf-c~mpi]
  - group: tools
    needs: [default]
    explicit: false
    specs:
    - gdb
    - $editors
  definitions:
  - editors: [vim, nano]
  container:
    # docker | singularity
    format: docker
    images:
      os: "ubuntu:24.04"
      spack: nightly
    strip: false
    os_packages:
      update: false
      final: [libgomp1, gcc=4:13.2]
    labels:
      org.example.course: PDI
      year: 2026
  config:
    install_tree:
      padded_length: 128
  mirrors:
    ours:
      url: oci://registry.example.org/mirror
      signed: false
      access_pair:
        id_variable: OCI_USER
        secret_variable: OCI_PASSWORD
      push: {url: oci://push.example.org/mirror}
    plain: file:///srv/mirror
  repos::
    course: /srv/repo
    other: {git: https://example.org/repo.git, destination: /srv/other}
  include:
  - /etc/spack/site.yaml
  - {path: extra.yaml, optional: true}
  packages:
    all: {target: [x86_64_v3]}
`

func parse(t *testing.T, text string) *spack.Environment {
	t.Helper()
	e, err := spack.ParseEnvironment("spack.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEnvironment(t *testing.T) {
	e := parse(t, tutorial)
	ours := spack.Connection{URL: "oci://registry.example.org/mirror", IDVariable: "OCI_USER", SecretVariable: "OCI_PASSWORD"}
	push := ours
	push.URL = "oci://push.example.org/mirror"
	unsigned := false
	plain := spack.Connection{URL: "file:///srv/mirror"}
	for name, c := range map[string]struct{ got, want any }{
		"specs": {e.Specs, []spack.SpecEntry{
			{Spec: "cmake", Line: 8},
			{Spec: "pdi~fortran", Line: 9},
			{Matrix: [][]string{{"hdf5", "netcdf-c"}, {"+mpi", "~mpi"}}, Exclude: []string{"netcdf-c~mpi"}, Line: 10},
			{
				Group: "tools", Needs: []string{"default"}, Implicit: true, Line: 14,
				Specs: []spack.SpecEntry{{Spec: "gdb", Line: 18}, {Spec: "$editors", Line: 19}},
			},
		}},
		"view":         {e.View, spack.View{}},
		"unify":        {e.Unify, "true"},
		"install tree": {e.InstallTree, spack.InstallTree{PaddedLength: 128}},
		"mirrors": {e.Mirrors, []spack.Mirror{
			{Name: "ours", Fetch: ours, Push: push, Signed: &unsigned, Source: true, Binary: true},
			{Name: "plain", Fetch: plain, Push: plain, Source: true, Binary: true},
		}},
		"repos":      {e.Repos, []spack.Repo{{Name: "course", Path: "/srv/repo"}, {Name: "other", Git: "https://example.org/repo.git", Path: "/srv/other"}}},
		"include":    {e.Include, []spack.Include{{Path: "/etc/spack/site.yaml"}, {Path: "extra.yaml", Optional: true}}},
		"format":     {e.Container.Format, "docker"},
		"strip":      {e.Container.Strip, false},
		"labels":     {e.Container.Labels, []spack.Label{{Name: "org.example.course", Value: "PDI"}, {Name: "year", Value: "2026"}}},
		"packages":   {e.Container.OSPackages, spack.OSPackages{Final: []string{"libgomp1", "gcc=4:13.2"}}},
		"os":         {e.Container.Images.OS, "ubuntu:24.04"},
		"spack":      {e.Container.Images.Spack, spack.Source{Version: "nightly"}},
		"no section": {e.Section("modules") == nil, true},
		"a section":  {e.Section("definitions").Content[0].Content[0].Value, "editors"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, c.got, c.want)
		}
	}
}

func TestViews(t *testing.T) {
	for text, want := range map[string]spack.View{
		"true":            {},
		"false":           {Disabled: true},
		"/opt/views/view": {Path: "/opt/views/view"},
		"{all: {root: v, link: run, group: tools, select: [a], exclude: [b]}}": {Named: []spack.NamedView{
			{Name: "all", Root: "v", Link: "run", Groups: []string{"tools"}, Select: []string{"a"}, Exclude: []string{"b"}},
		}},
	} {
		if got := parse(t, "spack: {view: "+text+"}").View; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestPaddedLength(t *testing.T) {
	for text, want := range map[string]spack.InstallTree{
		"{root: /opt/software}":           {Root: "/opt/software"},
		"/opt/software":                   {Root: "/opt/software"},
		"{padded_length: true}":           {PaddedLength: spack.PadToMaximum},
		"{padded_length: false}":          {},
		"{root: /a, padded_length: 0256}": {Root: "/a", PaddedLength: 256},
	} {
		if got := parse(t, "spack: {config: {install_tree: "+text+"}}").InstallTree; got != want {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestNoContainer(t *testing.T) {
	if c := parse(t, "spack:\n").Container; c != nil {
		t.Errorf("without the section there is %+v", c)
	}
	if c := parse(t, "spack: {container: }").Container; !reflect.DeepEqual(c, spack.DefaultContainer()) {
		t.Errorf("an empty section is %+v", c)
	}
}

func TestWholeContainer(t *testing.T) {
	got := parse(t, `spack:
  container:
    format: singularity
    images: {build: 'a/build:1', final: 'a/final:1'}
    depfile: true
    template: mine.j2
    docker: {}
    os_packages: {command: apt, build: [make]}
    singularity: {runscript: run, startscript: start, test: check, help: text}
    extra_instructions: {build: RUN a, final: RUN b}
    labels: {z: 1.10, a: true}
`).Container
	if base, err := got.Base(); err != nil || (base != spack.BaseImages{Build: "a/build:1", Final: "a/final:1", PackageManager: "apt"}) {
		t.Errorf("got %+v, %v", base, err)
	}
	want := &spack.Container{
		Format: "singularity", Images: got.Images, Depfile: true, Template: "mine.j2", Strip: true,
		OSPackages:        spack.OSPackages{Command: "apt", Update: true, Build: []string{"make"}},
		Singularity:       spack.Singularity{Runscript: "run", Startscript: "start", Test: "check", Help: "text"},
		ExtraInstructions: spack.ExtraInstructions{Build: "RUN a", Final: "RUN b"},
		Labels:            []spack.Label{{Name: "z", Value: "1.10"}, {Name: "a", Value: "true"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCommandsFor(t *testing.T) {
	for _, manager := range spack.PackageManagers() {
		if c, err := spack.CommandsFor(manager); err != nil || c.Update == "" || c.Install == "" || c.Clean == "" {
			t.Errorf("%s: %+v, %v", manager, c, err)
		}
	}
	for manager, want := range map[string]string{
		"":       "which package manager the image has is not known; say it with container:os_packages:command",
		"pacman": `"pacman" is not a package manager that is known`,
	} {
		if _, err := spack.CommandsFor(manager); err == nil || err.Error() != want {
			t.Errorf("%s: %v", manager, err)
		}
	}
}

func TestErrorsCanBeFound(t *testing.T) {
	_, err := spack.ParseEnvironment("f", []byte("spack:\n  container:\n    strp: true\n"))
	var one *spack.Error
	if !errors.As(err, &one) || one.Line != 3 || one.Path != "container" || one.Suggestion != "strip" || one.Source != "    strp: true" {
		t.Errorf("got %+v", one)
	}
}

func TestBase(t *testing.T) {
	for images, want := range map[string]spack.BaseImages{
		"{os: 'ubuntu:24.04', spack: nightly}": {Build: "spack/ubuntu-noble:nightly", Final: "ubuntu:24.04", PackageManager: "apt"},
		"{os: 'ubuntu:24.04', spack: {ref: v1.0.0}}": {
			Bootstrap: "ubuntu:24.04", Final: "ubuntu:24.04", PackageManager: "apt",
		},
		"{os: 'alpine:3', spack: develop}":         {Bootstrap: "alpine:3", Final: "alpine:3", PackageManager: "apk"},
		"{os: 'opensuse/leap:15', spack: develop}": {Build: "spack/leap15:develop", Final: "opensuse/leap:latest", PackageManager: "zypper"},
		"{build: 'a/b:1', final: c}":               {Build: "a/b:1", Final: "c", PackageManager: "yum"},
	} {
		command := ""
		if strings.Contains(images, "build") {
			command = ", os_packages: {command: yum}"
		}
		got, err := parse(t, "spack: {container: {images: "+images+command+"}}").Container.Base()
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", images, got, err, want)
		}
		if _, err := spack.CommandsFor(got.PackageManager); err != nil {
			t.Errorf("%s: %v", images, err)
		}
	}
	_, err := parse(t, "spack:\n  container:\n    images: {os: 'ubuntu:24.4', spack: latest}\n").Container.Base()
	const want = `spack.yaml:3:13: container.images.os: Spack has no images for "ubuntu:24.4"; name your own with build and final (did you mean "ubuntu:24.04"?)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"", `spack.yaml: is empty; an environment begins with 'spack:'`},
		"comment":        {"# nothing\n", `spack.yaml: is empty; an environment begins with 'spack:'`},
		"list":           {"- a\n", `spack.yaml:1:1: the file: must be a map of keys and values, not a list`},
		"other":          {"spak: {}\n", `spack.yaml:1:1: the file: has no key "spak" (did you mean "spack"?)`},
		"old":            {"env: {}\n", `spack.yaml:1:1: the file: has no key "env"`},
		"two documents":  {"spack:\n---\nspack:\n", `spack.yaml:2:1: a second document begins here; an environment is one document`},
		"tab":            {"spack:\n\tview: true\n", `spack.yaml:2:1: a tab cannot indent in YAML; use spaces`},
		"not YAML":       {"spack: [\n", `spack.yaml:1:1: is not YAML: did not find expected node content`},
		"not UTF-8":      {"spack: \xff\n", `spack.yaml:1:8: is not UTF-8 text; save the file as UTF-8`},
		"container name": {"spack:\n  containers: {}\n", `spack.yaml:2:3: spack: has no key "containers" (did you mean "container"?)`},
		"key":            {"spack:\n  container:\n    image: {}\n", `spack.yaml:3:5: container: has no key "image" (did you mean "images"?)`},
		"deeper key": {
			"spack:\n  container:\n    os_packages: {finall: [a]}\n",
			`spack.yaml:3:19: container.os_packages: has no key "finall" (did you mean "final"?)`,
		},
		"twice": {"spack:\n  container:\n    strip: true\n    strip: false\n", `spack.yaml:4:5: container: "strip" is there twice`},
		"word":  {"spack:\n  container: {format: dockr}\n", `spack.yaml:2:23: container.format: must be one of docker, singularity, not "dockr" (did you mean "docker"?)`},
		"version": {
			"spack:\n  container: {images: {os: 'ubuntu:24.04', spack: 1.0}}\n",
			`spack.yaml:2:51: container.images.spack: must be a text; write "1.0"`,
		},
		"os alone": {
			"spack: {container: {images: {os: 'ubuntu:24.04'}}}",
			`spack.yaml:1:29: container.images: needs both os and spack, or both build and final`,
		},
		"mixed": {
			"spack: {container: {images: {os: a, build: b}}}",
			`spack.yaml:1:29: container.images: has either os and spack, or build and final, not both`,
		},
		"images":      {"spack: {container: {images: ubuntu}}", `spack.yaml:1:29: container.images: must be a map of keys and values, not the text "ubuntu"`},
		"strip":       {"spack: {container: {strip: yes}}", `spack.yaml:1:28: container.strip: must be true or false, not the text "yes"`},
		"list of":     {"spack: {container: {os_packages: {build: a}}}", `spack.yaml:1:42: container.os_packages.build: must be a list, not the text "a"`},
		"package":     {"spack: {container: {os_packages: {build: [a; b]}}}", `spack.yaml:1:42: container.os_packages.build: "a; b" is not the name of a package`},
		"docker":      {"spack: {container: {docker: {x: 1}}}", `spack.yaml:1:30: container.docker: has no key "x"`},
		"merge":       {"spack: {container: {<<: {}}}", `spack.yaml:1:21: container: merge keys (<<) are not supported here; write the keys out`},
		"password":    {"spack: {mirrors: {m: {url: u, access_pair: [me, secret]}}}", `spack.yaml:1:44: mirrors.m.access_pair: a secret in the file would be readable in the image; name environment variables: access_pair: {id_variable: …, secret_variable: …}`},
		"padding":     {"spack: {config: {install_tree: {padded_length: -3}}}", `spack.yaml:1:48: config.install_tree.padded_length: must be a length or true, not a number`},
		"spec":        {"spack: {specs: [[a]]}", `spack.yaml:1:17: specs[0]: must be a text, not a list`},
		"not a map":   {"spack: [a]", `spack.yaml:1:8: spack: must be a map of keys and values, not a list`},
		"view":        {"spack: {view: [a]}", `spack.yaml:1:15: view: must be a text, not a list`},
		"unify":       {"spack: {concretizer: {unify: [a]}}", `spack.yaml:1:30: concretizer.unify: must be true, false or when_possible, not a list`},
		"label":       {"spack: {container: {labels: {a: [b]}}}", `spack.yaml:1:33: container.labels.a: must be a text, not a list`},
		"key of list": {"spack: {mirrors: {[a]: b}}", `spack.yaml:1:19: mirrors: a key must be a text`},
		"terminal":    {"spack: {container: {\"a\\e[31m\": 1}}", `spack.yaml:1:21: container: has no key "a\x1b[31m"`},
		"several": {
			"spack:\n  container:\n    strip: 1\n    formt: docker\n",
			"spack.yaml:3:12: container.strip: must be true or false, not a number\n" +
				`spack.yaml:4:5: container: has no key "formt" (did you mean "format"?)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := spack.ParseEnvironment("spack.yaml", []byte(c.text))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// Hostile files are refused, with a reason, in no time.
func TestHostileEnvironments(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("spack:\n  a0: &a0 [x, x]\n")
	for i := range 40 {
		fmt.Fprintf(&laughs, "  a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i)
	}
	for name, c := range map[string]struct{ text, want string }{
		"billion laughs": {laughs.String(), "too many values; aliases may repeat one another"},
		"10 MB":          {"spack:\n" + strings.Repeat("# long\n", 10<<20/7), "is larger than 1048576 bytes"},
		"deep":           {"spack: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "nested too deeply"},
		"deeper":         {"spack: " + strings.Repeat("[", 100_000), "spack.yaml:1:"},
		"itself":         {"spack: &a\n  specs: [*a]\n", "the alias *a is inside of what it stands for"},
		"many errors":    {"spack:\n  container:\n" + strings.Repeat("    k: x\n", 20_000), "there are more errors"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := spack.ParseEnvironment("spack.yaml", []byte(c.text))
			if spent := time.Since(start); spent > 30*time.Second {
				t.Errorf("it took %v", spent)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want %q", err, c.want)
			}
		})
	}
}

// samples returns the directory with files that a real Spack made for the
// project's own software, or skips.
func samples(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PDIBUILD_SPACK_SAMPLES")
	if dir == "" {
		t.Skip("SKIPPED: PDIBUILD_SPACK_SAMPLES does not name the directory with files of a real Spack")
	}
	return dir
}

func readFile(t *testing.T, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSampleEnvironment(t *testing.T) {
	e := parse(t, string(readFile(t, samples(t), "pdi", "spack.yaml")))
	if len(e.Specs) != 6 || e.InstallTree.PaddedLength != 128 || e.Mirrors[0].Name != "local" || *e.Mirrors[0].Signed {
		t.Errorf("got %+v", e)
	}
}
