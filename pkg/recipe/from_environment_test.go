package recipe_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// loadEnvironment loads a directory that has only a spack.yaml.
func loadEnvironment(t *testing.T, text string) (*recipe.Recipe, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spack.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return recipe.Load(dir)
}

func TestEnvironmentIsRecipe(t *testing.T) {
	for name, c := range map[string]struct{ section, want string }{
		"nothing said": {"", `from: spack/ubuntu-jammy:develop
spack: {environment: spack.yaml, strip: true}
from: ubuntu:22.04`},
		"os and Spack": {`
  container:
    images: {os: "ubuntu:24.04", spack: nightly}
    strip: false
    os_packages: {update: false, build: [git, vim], final: [libgfortran5]}
    labels: {app: pdi}`, `from: spack/ubuntu-noble:nightly
apt-get -yqq install git vim && rm -rf /var/lib/apt/lists/*
spack: {environment: spack.yaml}
from: ubuntu:24.04
apt-get -yqq install libgfortran5 && rm -rf /var/lib/apt/lists/*
app: pdi`},
		"own images": {`
  container:
    images: {build: "example.org/build:1", final: "example.org/final:2"}
    os_packages: {command: dnf, final: [gcc]}`, `from: example.org/build:1
from: example.org/final:2
dnf update -y && dnf install -y gcc`},
		"a Spack of one's own": {`
  container:
    images: {os: "ubuntu:22.04", spack: {url: "https://example.org/spack.git", ref: v1.1.0}}`, `from: ubuntu:22.04
git: https://example.org/spack.git#v1.1.0`},
		"Apptainer": {`
  container:
    format: singularity
    singularity: {runscript: "exec app \"$@\"", test: app --version, help: What it does}`, `check: app --version
runscript
org.opencontainers.image.description: What it does`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := loadEnvironment(t, "spack:\n  specs: [zlib]"+c.section+"\n")
			if err != nil {
				t.Fatal(err)
			}
			text, err := recipe.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.NewReplacer("\n            ", " ", "'", "", `"`, "").Replace(string(text))
			for want := range strings.Lines(c.want) {
				want = strings.TrimSpace(want)
				if inner, ok := strings.CutPrefix(want, "spack: {"); ok {
					want = "environment: spack.yaml"
					if strings.Contains(inner, "strip") != strings.Contains(got, "strip: true") {
						t.Errorf("strip is not as said in\n%s", got)
					}
				}
				if !strings.Contains(got, want) {
					t.Errorf("the recipe has no %q:\n%s", want, got)
				}
			}
			for _, want := range []string{"environment: builder", "entrypoint: activate", "ln -s /opt/views/view /opt/view"} {
				if !strings.Contains(got, want) {
					t.Errorf("the recipe has no %q:\n%s", want, got)
				}
			}
		})
	}
}

// /opt/view leads to the default view, wherever the environment has it.
func TestLinkToTheView(t *testing.T) {
	t.Parallel()
	for view, want := range map[string]string{
		"":                              "ln -s /opt/views/view /opt/view",
		"view: true":                    "ln -s /opt/views/view /opt/view",
		"view: /opt/v":                  "ln -s /opt/v /opt/view",
		"view: {default: {root: ./v}}":  "ln -s /opt/spack-environment/v /opt/view",
		"view: {default: {root: ~/v}}":  "",
		"view: {other: {root: /opt/o}}": "",
		"view: false":                   "",
		"view: /opt/view":               "",
		"include: [conf]":               "[ ! -e /opt/views/view ] || ln -s /opt/views/view /opt/view",
	} {
		r, err := loadEnvironment(t, "spack:\n  specs: [zlib]\n  "+view+"\n")
		if err != nil {
			t.Fatalf("%s: %v", view, err)
		}
		got := ""
		for _, s := range r.Stages[1].Steps {
			if run, ok := s.(recipe.Run); ok {
				got += run.Command.Shell
			}
		}
		if got != want {
			t.Errorf("%q: the command is %q, want %q", view, got, want)
		}
	}
}

func TestEnvironmentThatIsNoRecipe(t *testing.T) {
	for name, c := range map[string]struct {
		section, says string
		line          int
	}{
		"unknown os":   {"container: {images: {os: \"ubuntu:99\", spack: x}}", "ubuntu", 0},
		"template":     {"container: {template: my.jinja}", "template", 0},
		"instructions": {"container: {extra_instructions: {final: RUN true}}", "extra_instructions", 0},
		"a typo":       {"container: {imagse: {os: x}}", "images", 3},
		"no manager":   {"container: {images: {build: a, final: b}, os_packages: {final: [gcc]}}", "os_packages", 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadEnvironment(t, "spack:\n  specs: [zlib]\n  "+c.section+"\n")
			var bad recipe.Errors
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want recipe.Errors", err)
			}
			if !strings.Contains(err.Error(), c.says) || (c.line > 0 && bad[0].Line != c.line) {
				t.Errorf("got %v (line %d), want %q in line %d", err, bad[0].Line, c.says, c.line)
			}
		})
	}
}
