// Package containerfile writes a recipe as a file for other builders: a
// Containerfile (which podman, buildah and docker read) or an Apptainer
// definition file.
//
// Write is all there is to call. What such a file cannot express is a comment
// in it that says so and begins with "NOTE". A recipe from a spack.yaml gives
// what `spack containerize` prints for it, in words of our own and with the
// differences that docs/spack-container.md lists.
//
// The package is pure: it reads environments from the context that it is given
// and runs nothing.
package containerfile

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A Format is a kind of file.
type Format string

// The formats, called as in the container: section of a spack.yaml.
const (
	// Docker is a Containerfile, also known as Dockerfile.
	Docker Format = "docker"
	// Singularity is a definition file of Apptainer, once Singularity.
	Singularity Format = "singularity"
)

// Formats are the formats that there are, the default first.
func Formats() []Format { return []Format{Docker, Singularity} }

// Options change what is written. The zero value is a Containerfile of the
// recipe's last stage.
type Options struct {
	// Format of the file. Empty means Docker.
	Format Format
	// Target is the stage to build. Empty means the last.
	Target string
	// Args override the recipe's args; an unknown name is an error.
	Args map[string]string
}

// Write returns the file. Context is the build context, from which environments
// and their package repositories are read; it may be nil for recipes without.
func Write(r *recipe.Recipe, context fs.FS, opt Options) ([]byte, error) {
	if len(r.Stages) == 0 {
		return nil, fmt.Errorf("the recipe has no stage")
	}
	substituted, err := r.Substitute(opt.Args)
	if err != nil {
		return nil, err
	}
	if opt.Target == "" {
		opt.Target = r.Stages[len(r.Stages)-1].Name
	}
	order, err := substituted.Order(opt.Target)
	if err != nil {
		return nil, err
	}
	src := &source{recipe: substituted, context: context, order: order}
	if opt.Format == Singularity {
		return src.definition()
	}
	return src.containerfile()
}

// A source is what is written about.
type source struct {
	recipe  *recipe.Recipe
	context fs.FS
	// order has the names of the stages, the image's as the last.
	order []string
}

// A text is a file being written.
type text struct{ bytes.Buffer }

func (t *text) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// comment writes a sentence as lines of a comment.
func (t *text) comment(format string, args ...any) {
	const width = 76
	line := "#"
	for _, word := range strings.Fields(fmt.Sprintf(format, args...)) {
		if len(line)+1+len(word) > width && line != "#" {
			t.line("%s", line)
			line = "#"
		}
		line += " " + word
	}
	t.line("%s", line)
}

// note says what the file lacks of the recipe.
func (t *text) note(format string, args ...any) { t.comment("NOTE: "+format, args...) }

// account is the user of that name which a stage creates, or nil.
func account(st *recipe.Stage, name string) *recipe.UserSpec {
	for _, step := range st.Steps {
		if u, ok := step.(recipe.User); ok && u.User.Name == name && creates(u.User) {
			return &u.User
		}
	}
	return nil
}

func creates(u recipe.UserSpec) bool {
	return u.UID != 0 || u.GID != 0 || u.Home != "" || u.Shell != ""
}

// owner is a copy's owner. An account that the stage creates, maybe only
// later, is given by its numbers.
func owner(st *recipe.Stage, name string) string {
	if u := account(st, name); u != nil {
		return fmt.Sprintf("%d:%d", u.UID, group(*u))
	}
	return name
}

// writeFile is what writes a file step's file, with no more than a shell. The
// owner comes first: a file that existed would keep its own, and chown takes
// set-id bits away.
func writeFile(st *recipe.Stage, step recipe.File) []string {
	mode, uidGID := step.Mode, "0:0"
	if mode == "" {
		mode = "0644"
	}
	if step.Owner != "" {
		uidGID = withGroup(owner(st, step.Owner))
	}
	file := shellquote.Word(step.Path)
	return []string{makeParents(step.Path, uidGID), printLines(step.Content) + " > " + file, "chown " + shellquote.Word(uidGID) + " " + file, "chmod " + mode + " " + file}
}

// makeParents makes the directories above a file that are missing, for the
// file's owner. Those that every distribution has are none of them.
func makeParents(file, uidGID string) string {
	var dirs []string
	for dir := path.Dir(path.Clean(file)); path.Dir(dir) != dir; dir = path.Dir(dir) {
		if path.Dir(dir) != "/" || !slices.Contains([]string{"/bin", "/etc", "/home", "/lib", "/opt", "/root", "/sbin", "/srv", "/tmp", "/usr", "/var"}, dir) {
			dirs = append(dirs, shellquote.Word(dir))
		}
	}
	if uidGID == "0:0" || len(dirs) == 0 {
		return "mkdir -p " + shellquote.Word(path.Dir(file))
	}
	slices.Reverse(dirs)
	return "for d in " + strings.Join(dirs, " ") + `; do [ -d "$d" ] || { mkdir "$d" && chown ` + shellquote.Word(uidGID) + ` "$d"; } || exit; done`
}

// withGroup names the group that a copy takes where only the user is named: of
// a number the same number, of a name the user's own.
func withGroup(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return name + ":" + name
	}
	return name + ":"
}

func group(u recipe.UserSpec) int {
	if u.GID != 0 {
		return u.GID
	}
	return u.UID
}

// addUser is what creates an account, with no more than a shell.
func addUser(u recipe.UserSpec) []string {
	home, shell := u.Home, u.Shell
	if home == "" {
		home = "/home/" + u.Name
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	gid := group(u)
	line := func(file, text string) string {
		return fmt.Sprintf("{ grep -q %s %s || echo %s >> %s; }", shellquote.Word("^"+u.Name+":"), file, shellquote.Word(text), file)
	}
	return []string{
		line("/etc/group", fmt.Sprintf("%s:x:%d:", u.Name, gid)),
		line("/etc/passwd", fmt.Sprintf("%s:x:%d:%d::%s:%s", u.Name, u.UID, gid, home, shell)),
		"mkdir -p " + shellquote.Word(home),
		fmt.Sprintf("chown %d:%d %s", u.UID, gid, shellquote.Word(home)),
	}
}

// bootstrapped is the image that comes nearest to a bootstrapped root, and the
// packages that it needs besides.
func bootstrapped(st *recipe.Stage) (image string, packages []string, ok bool) {
	tool, suite, found := strings.Cut(st.From, ":")
	if !found || (tool != "debootstrap" && tool != "mmdebstrap") {
		return "", nil, false
	}
	image = "docker.io/library/debian:" + suite
	switch suite {
	case "focal", "jammy", "noble", "oracular", "plucky", "questing":
		image = "docker.io/library/ubuntu:" + suite
	}
	if st.Bootstrap != nil {
		packages = st.Bootstrap.Packages
	}
	return image, packages, true
}

// compilerProof compiles and runs a program with each compiler.
func compilerProof(c *recipe.Compiler) []string {
	var proof []string
	for _, p := range []struct{ compiler, name, program string }{
		{c.CC, "proof.c", "int main(void) { return 0; }"},
		{c.CXX, "proof.cc", "int main() { return 0; }"},
		{c.FC, "proof.f90", "end program"},
	} {
		if p.compiler != "" {
			proof = append(proof, fmt.Sprintf("echo %s > %s && %s %s -o proof && ./proof", shellquote.Word(p.program), p.name, shellquote.Word(p.compiler), p.name))
		}
	}
	if len(proof) == 0 {
		return nil
	}
	return append(append([]string{`d="$(mktemp -d)" && cd "$d"`}, proof...), `rm -r "$d"`)
}

// compilerEnv are the variables that name compilers.
func compilerEnv(c *recipe.Compiler) map[string]string {
	env := map[string]string{}
	if c == nil {
		return env
	}
	for name, value := range map[string]string{"CC": c.CC, "CXX": c.CXX, "FC": c.FC} {
		if value != "" {
			env[name] = value
		}
	}
	return env
}
