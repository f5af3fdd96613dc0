package containerfile_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/pdidev/pdibuild/pkg/containerfile"
)

// These tests compare what is printed for an environment with what the real
// `spack containerize` prints for it: the same images and packages of the
// distribution, the same environment, labels, directories and commands. What
// differs on purpose is in docs/spack-container.md, and named here.

// containerized are environments, and what of their spack.yaml in the image
// is different on purpose.
var containerized = map[string]struct {
	text string
	// kept are sections that Spack changes or drops and we keep.
	kept []string
}{
	"no section": {text: "specs: [zlib]"},
	"packages and labels": {text: `specs: [zlib, "hdf5@1.14 +mpi"]
  container:
    format: docker
    images: {os: "ubuntu:24.04", spack: develop}
    os_packages: {build: [gfortran, make], final: [libgfortran5]}
    labels: {app: two words, mpi: mpich, version: 1.5}`},
	"images of one's own": {text: `specs: [zlib]
  container:
    images: {build: "registry.example.org/hpc/spack:1.0", final: "debian:12"}
    os_packages: {command: apt, final: [libgomp1]}`},
	"no strip": {text: `specs: [zlib]
  container: {images: {os: "ubuntu:22.04", spack: develop}, strip: false}`},
	"no update": {text: `specs: [zlib]
  container: {images: {os: "ubuntu:22.04", spack: develop}, os_packages: {update: false, build: [make], final: [make]}}`},
	"Fedora": {text: `specs: [zlib]
  container: {images: {os: "fedora:40", spack: develop}, os_packages: {build: [make], final: [libgomp]}}`},
	"Rocky Linux": {text: `specs: [zlib]
  container: {images: {os: "rockylinux:9", spack: develop}, os_packages: {final: [libgomp]}}`},
	"Alpine": {text: `specs: [zlib]
  container: {images: {os: "alpine:3", spack: develop}, os_packages: {final: [libgomp]}}`},
	"openSUSE": {text: `specs: [zlib]
  container: {images: {os: "opensuse/leap:15", spack: develop}, os_packages: {final: [libgomp1]}}`},
	"yum": {text: `specs: [zlib]
  container: {images: {build: "centos/spack:7", final: "centos:7"}, os_packages: {command: yum, final: [libgomp]}}`},
	"Spack of one's own": {text: `specs: [zlib]
  container: {images: {os: "ubuntu:24.04", spack: {url: "https://git.example.org/spack", ref: v1.0.0}}}`},
	"specs in all forms": {text: `definitions:
  - compilers: ["%gcc"]
  - packages: [zlib, "yaml-cpp build_type='Release' cflags='-O2 -g'"]
  specs:
  - matrix: [[$packages], [$compilers]]
  - "lz4 ^zlib"
  packages:
    all: {require: "target=x86_64_v3"}
  container: {images: {os: "ubuntu:24.04", spack: develop}}`},
	"the tutorial's": {kept: []string{"config"}, text: `view: true
  concretizer: {unify: true}
  specs: [pdi~fortran, "python+tkinter"]
  config: {install_tree: {padded_length: 128}}
  mirrors:
    numpex-spack-mirror:
      url: oci://ghcr.io/thomas-bouvier/numpex-spack-mirror
      access_pair: {id_variable: OCI_USERNAME_VARIABLE, secret_variable: OCI_PASSWORD_VARIABLE}
  container: {format: docker, images: {os: "ubuntu:24.04", spack: nightly}, strip: true}`},
	"views of one's own": {kept: []string{"view"}, text: `specs: [zlib]
  view: {default: {root: /opt/views/view, link: roots}}
  container: {images: {os: "ubuntu:24.04", spack: develop}}`},
	"without unify": {text: `specs: [zlib]
  concretizer: {unify: when_possible}
  container: {images: {os: "ubuntu:24.04", spack: develop}}`},
}

// containerize returns what Spack prints in a directory, or skips.
func containerize(t *testing.T, dir string) string {
	t.Helper()
	program := os.Getenv("PDIBUILD_SPACK")
	if program == "" {
		t.Skip("SKIPPED: PDIBUILD_SPACK does not name a Spack to compare with")
	}
	var errors bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "containerize")
	cmd.Dir, cmd.Stderr = dir, &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("spack containerize: %v\n%s", err, errors.Bytes())
	}
	return string(out)
}

func environmentIn(t *testing.T, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spack.yaml"), []byte("spack:\n  "+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSpackContainerizesTheSame(t *testing.T) {
	for name, c := range containerized {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := environmentIn(t, c.text)
			text := containerize(t, dir)
			theirs, ours := contentOf(t, text), contentOf(t, write(t, dir, containerfile.Docker))
			for _, section := range c.kept {
				if reflect.DeepEqual(theirs.environment[section], ours.environment[section]) {
					t.Errorf("Spack keeps %s, too: the difference is no longer one", section)
				}
				delete(theirs.environment, section)
				delete(ours.environment, section)
			}
			if _, ok := ours.environment["concretizer"]; !ok {
				delete(theirs.environment, "concretizer") // unify: true, which is the default
			}
			if !reflect.DeepEqual(theirs, ours) {
				t.Errorf("Spack's is\n%+v\nours\n%+v", theirs, ours)
			}
		})
	}
}

// content is what a Containerfile of an environment is about.
type content struct {
	from        []string
	environment map[string]any
	// distribution are the commands that install its packages.
	distribution                 []string
	copied                       []string
	labels                       map[string]string
	strips, collects, stopsEarly bool
	linksView                    bool
	entrypoint, cmd              string
}

var (
	spaces       = regexp.MustCompile(`\s+`)
	installs     = regexp.MustCompile(`^(export DEBIAN_FRONTEND=\S+ && )?(apt-get|dnf|yum|zypper|apk) `)
	stopsEarly   = regexp.MustCompile(`spack( -e \.)? install( -j \S+)? --fail-fast`)
	makesFile    = regexp.MustCompile(`> /opt/spack-environment/spack\.yaml`)
	linksTheView = regexp.MustCompile(`ln -s /opt/views/view /opt/view\b`)
)

func contentOf(t *testing.T, text string) *content {
	t.Helper()
	c := &content{labels: map[string]string{}}
	// Spack ends stages with lines that this parser warns about.
	for _, i := range instructions(t, strings.ReplaceAll(text, "\\\n\n", "\n")) {
		switch strings.ToUpper(i.name) {
		case "FROM":
			c.from = append(c.from, i.words[0])
		case "RUN":
			c.addRun(t, i.args)
		case "COPY":
			if len(i.flags) > 0 && !strings.Contains(i.args, "/spack ") {
				c.copied = append(c.copied, i.args)
			}
		case "LABEL":
			for n := 0; n+1 < len(i.words); n += 3 {
				c.labels[strings.Trim(i.words[n], `"`)] = strings.Trim(i.words[n+1], `"`)
			}
		case "ENTRYPOINT":
			c.entrypoint = i.args
		case "CMD":
			c.cmd = i.args
		}
	}
	c.joinBootstrap()
	slices.Sort(c.copied)
	return c
}

// joinBootstrap makes one of the stage in which Spack is brought into an image
// without one, and the stage that builds. They install tools first, each with a
// list of its own.
func (c *content) joinBootstrap() {
	if len(c.from) == 3 {
		c.from = slices.Delete(c.from, 1, 2)
	}
	if len(c.distribution) > 0 && strings.Contains(c.distribution[0], "python3") && strings.Contains(c.distribution[0], "fortran") {
		c.distribution[0] = "tools"
	}
}

func (c *content) addRun(t *testing.T, command string) {
	t.Helper()
	flat := spaces.ReplaceAllString(strings.ReplaceAll(command, "\\\n", " "), " ")
	switch {
	case makesFile.MatchString(command):
		c.environment = environmentMadeBy(t, command)
	case installs.MatchString(flat):
		c.distribution = append(c.distribution, flat)
	case strings.Contains(flat, "strip"):
		c.strips = true
	}
	c.stopsEarly = c.stopsEarly || stopsEarly.MatchString(flat)
	c.collects = c.collects || strings.Contains(flat, "gc -y")
	c.linksView = c.linksView || linksTheView.MatchString(flat)
}

// environmentMadeBy runs the command that writes spack.yaml, in a directory of
// the host.
func environmentMadeBy(t *testing.T, command string) map[string]any {
	t.Helper()
	dir := t.TempDir()
	shell(t, []string{"/bin/bash", "-c", strings.ReplaceAll(command, "/opt/spack-environment", dir)})
	data, err := os.ReadFile(filepath.Join(dir, "spack.yaml"))
	if err != nil {
		t.Fatalf("%v: %s", err, command)
	}
	var file struct{ Spack map[string]any }
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatalf("%v:\n%s", err, data)
	}
	return file.Spack
}

// The definition files name the same images, labels and commands, and take the
// same directories.
func TestSpackContainerizesTheSameForApptainer(t *testing.T) {
	const words = `specs: [zlib]
  container:
    format: singularity
    images: {os: "ubuntu:24.04", spack: develop}
    os_packages: {build: [make], final: [libgomp1]}
    labels: {app: two words}
    singularity: {runscript: "exec zpipe $@", test: "ls /opt/view/lib/libz.so", help: "what it is for"}`
	for name, text := range map[string]string{
		"all sections": words,
		"no strip":     strings.Replace(words, "    labels", "    strip: false\n    labels", 1),
		"Rocky Linux":  strings.NewReplacer("ubuntu:24.04", "rockylinux:9", "libgomp1", "libgomp").Replace(words),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := environmentIn(t, text)
			theirs, ours := sectionsOf(containerize(t, dir)), sectionsOf(write(t, dir, containerfile.Singularity))
			ours["%labels"] = slices.DeleteFunc(ours["%labels"], func(l string) bool { return strings.HasPrefix(l, "org.opencontainers.image.description ") })
			for _, section := range []string{"from", "%labels", "%files"} {
				if !slices.Equal(theirs[section], ours[section]) {
					t.Errorf("%s is with Spack\n%q\nours\n%q", section, theirs[section], ours[section])
				}
			}
			for section, want := range map[string]string{"%post": "make", "%runscript": "exec zpipe", "%test": "ls /opt/view/lib/libz.so", "%help": "what it is for"} {
				for who, all := range map[string]map[string][]string{"Spack": theirs, "ours": ours} {
					if !strings.Contains(strings.Join(all[section], "\n"), want) {
						t.Errorf("%s: %%%s has no %q: %q; sections: %v", who, section, want, all[section], slices.Sorted(maps.Keys(all)))
					}
				}
			}
			if strips := func(all map[string][]string) bool {
				return strings.Contains(strings.Join(all["%post"], "\n"), "strip ") || strings.Contains(strings.Join(all["%post"], "\n"), "xargs strip")
			}; strips(theirs) != strips(ours) {
				t.Errorf("Spack strips: %v, ours: %v", strips(theirs), strips(ours))
			}
		})
	}
}

// sectionsOf takes a definition file apart; "from" are the images.
func sectionsOf(text string) map[string][]string {
	all := map[string][]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if image, ok := strings.CutPrefix(line, "From: "); ok {
			all["from"] = append(all["from"], image)
		}
		switch {
		case strings.HasPrefix(line, "%"):
			section = strings.Fields(line)[0]
		case line == "" || strings.HasPrefix(line, "Bootstrap:"):
		case section == "%files" && strings.Contains(line, "environment_modifications"): // is in a directory that is taken
		default:
			all[section] = append(all[section], line)
		}
	}
	return all
}
