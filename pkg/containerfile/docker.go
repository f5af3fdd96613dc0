package containerfile

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// containerfile writes a Containerfile.
func (s *source) containerfile() ([]byte, error) {
	f := &dockerFile{source: s, names: s.dockerNames()}
	f.header()
	for _, name := range s.order {
		st := s.recipe.Stage(name)
		d := &dockerStage{dockerFile: f, st: st, user: s.firstUser(st)}
		if err := d.write(); err != nil {
			return nil, fmt.Errorf("stage %s: %w", name, err)
		}
	}
	return f.Bytes(), nil
}

// A dockerFile is a Containerfile being written.
type dockerFile struct {
	text
	*source
	// names are the stages' names here, where they have to be in lower case.
	names map[string]string
}

func (s *source) dockerNames() map[string]string {
	names, taken := map[string]string{}, map[string]bool{}
	for _, name := range s.order {
		short := strings.ToLower(name)
		if short[0] >= '0' && short[0] <= '9' {
			short = "stage-" + short
		}
		for taken[short] {
			short += "-2"
		}
		names[name], taken[short] = short, true
	}
	return names
}

// firstUser is the user that a stage begins with: that of the stage that it
// starts from. Of a base image it is not known; nearly all have root.
func (s *source) firstUser(st *recipe.Stage) string {
	for st = s.recipe.Stage(st.From); st != nil; st = s.recipe.Stage(st.From) {
		for _, step := range slices.Backward(st.Steps) {
			if u, ok := step.(recipe.User); ok {
				return u.User.Name
			}
		}
	}
	return "root"
}

// header says how the file is used.
func (f *dockerFile) header() {
	image := f.recipe.Name
	if image == "" {
		image = "IMAGE"
	}
	command := []string{"podman build", "-t", image}
	for _, id := range slices.Sorted(maps.Keys(f.recipe.Secrets)) {
		given := f.recipe.Secrets[id]
		switch {
		case given.Env != "":
			command = append(command, "--secret", "id="+id+",env="+given.Env)
		case given.File != "":
			command = append(command, "--secret", "id="+id+",src="+given.File)
		default:
			command = append(command, "--secret", "id="+id+",src=FILE")
		}
	}
	last := f.recipe.Stage(f.order[len(f.order)-1])
	for _, name := range slices.Sorted(maps.Keys(last.Annotations)) {
		command = append(command, "--annotation", shellquote.Word(name+"="+last.Annotations[name]))
	}
	f.comment("Build it with:")
	f.line("#   %s -f Containerfile .", strings.ReplaceAll(strings.Join(command, " "), "\n", " "))
	if len(f.recipe.Args) > 0 {
		f.note("the recipe's arguments have been replaced by their values; those of the commands can be changed with --build-arg, the others when this file is written.")
	}
}

// A dockerStage is a stage being written.
type dockerStage struct {
	*dockerFile
	st *recipe.Stage
	// user is who the following instructions run as.
	user string
	// activate is the directory of the environment that the stage has got.
	activate string
}

func (d *dockerStage) write() error {
	d.from()
	for _, name := range slices.Sorted(maps.Keys(d.recipe.Args)) {
		d.line("ARG %s=%s", name, quotedLiteral(d.recipe.Args[name]))
	}
	d.env(d.st.Env)
	var checks []recipe.Check
	for _, step := range d.st.Steps {
		if c, ok := step.(recipe.Check); ok {
			checks = append(checks, c)
			continue
		}
		if err := d.step(step); err != nil {
			return err
		}
	}
	d.finish(checks)
	return nil
}

// from begins the stage.
func (d *dockerStage) from() {
	from := strings.TrimPrefix(d.st.From, "docker://")
	from = strings.TrimPrefix(from, "containers-storage:")
	if name, ok := d.names[from]; ok {
		from = name
	}
	image, packages, boot := bootstrapped(d.st)
	d.line("")
	if boot {
		d.note("pdibuild makes %s from the distribution's mirror; here it is the image that comes nearest.", d.st.From)
		from = image
	} else if first, _, ok := strings.Cut(from, ":"); ok && slices.Contains([]string{"oci", "oci-archive", "docker-archive", "dir"}, first) {
		d.note("podman and buildah read images from files, docker does not.")
	}
	platform := ""
	if d.st.Platform != "" {
		platform = "--platform=" + d.st.Platform + " "
	}
	d.line("FROM %s%s AS %s", platform, from, d.names[d.st.Name])
	if len(packages) > 0 {
		d.chain(nil, "apt-get update", "apt-get install -y --no-install-recommends "+quoteAll(packages), "rm -rf /var/lib/apt/lists/*")
	}
}

// env sets variables; the values see those of before.
func (d *dockerStage) env(env map[string]string) {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.Contains(env[name], "\n") {
			d.note("the variable %s is left out: its value has several lines.", name)
			continue
		}
		pairs = append(pairs, name+"="+envValue(env[name]))
	}
	if len(pairs) > 0 {
		d.line("ENV %s", strings.Join(pairs, " \\\n    "))
	}
}

func (d *dockerStage) step(step recipe.Step) error {
	switch step := step.(type) {
	case recipe.Run:
		d.run(step)
	case recipe.Copy:
		d.copy(step)
	case recipe.File:
		d.file(step)
	case recipe.Env:
		d.env(step.Env)
	case recipe.Workdir:
		d.line("WORKDIR %s", literal(step.Workdir))
	case recipe.User:
		if creates(step.User) {
			d.asRoot(func() { d.chain(nil, addUser(step.User)...) })
		}
		d.line("USER %s", step.User.Name) // also where it is root: the base image may have another user
		d.user = step.User.Name
	case recipe.Spack:
		return d.spack(step.Spack)
	case recipe.Environment:
		return d.environmentStep(step)
	default:
		return fmt.Errorf("a %s step cannot be written", step.Verb())
	}
	return nil
}

func (d *dockerStage) setUser(name string) {
	if name != d.user {
		d.line("USER %s", name)
		d.user = name
	}
}

// asUser writes instructions for another user.
func (d *dockerStage) asUser(name string, write func()) {
	before := d.user
	d.setUser(name)
	write()
	d.setUser(before)
}

func (d *dockerStage) asRoot(write func()) {
	if d.user == "0" || strings.HasPrefix(d.user, "0:") || d.user == "root" || strings.HasPrefix(d.user, "root:") {
		write()
		return
	}
	d.asUser("0", write)
}

// chain runs commands as long as they succeed.
func (d *dockerStage) chain(flags []string, commands ...string) {
	d.line("RUN %s%s", strings.Join(append(slices.Clone(flags), ""), " \\\n    "), strings.Join(commands, " \\\n && "))
}

func (d *dockerStage) copy(step recipe.Copy) {
	verb, flags := "COPY", []string(nil)
	if step.From != "" {
		flags = append(flags, "--from="+d.names[step.From])
	}
	switch {
	case step.Owner != "":
		flags = append(flags, "--chown="+owner(d.st, step.Owner))
	case step.From != "": // podman and buildah keep the owner in the stage
		flags = append(flags, "--chown=0:0")
	}
	if step.Checksum != "" {
		verb, flags = "ADD", append(flags, "--checksum="+step.Checksum)
	}
	if step.Mode != "" {
		flags = append(flags, "--chmod="+step.Mode)
		if len(strings.TrimRight(step.Mode, "0246")) == 0 {
			d.note("in a directory, --chmod=%s also takes away the right to enter directories; pdibuild leaves it.", step.Mode)
		}
	} else if step.Checksum != "" {
		flags = append(flags, "--chmod=0644")
	}
	if len(step.Exclude) > 0 {
		d.note("--exclude needs podman 5.3 or a docker of 2025; older ones stop here.")
	}
	sources, exclude := excluding(step)
	for _, pattern := range exclude {
		flags = append(flags, "--exclude="+literal(pattern))
	}
	if len(exclude) > 0 && slices.ContainsFunc(sources, isPattern) {
		d.note("docker copies what a wildcard itself matches whatever --exclude says; podman leaves it out (moby/buildkit#5489).")
	}
	to := step.To
	if len(step.Sources) > 1 && !strings.HasSuffix(to, "/") {
		to += "/"
	}
	d.line("%s %s%s", verb, strings.Join(append(flags, ""), " "), paths(append(sources, to)))
}

func isPattern(source string) bool { return strings.ContainsAny(source, "*?[") }

// excluding returns the sources and patterns of a step as podman needs them: a
// pattern is about paths in the context or stage and below a source as it is
// written, so sources of stages cannot begin with a slash, and what a wildcard
// matches needs a pattern with the directory of the wildcard.
func excluding(step recipe.Copy) (sources, exclude []string) {
	sources, exclude = slices.Clone(step.Sources), slices.Clone(step.Exclude)
	for i, source := range sources {
		if isPattern(source) {
			// Only podman has "**".
			source = strings.ReplaceAll(source, "**", "*")
		}
		if len(step.Exclude) > 0 && !strings.Contains(source, "://") {
			source = strings.TrimPrefix(path.Clean("/"+source), "/")
		}
		sources[i] = cmp.Or(source, ".")
		dir := source
		for isPattern(dir) {
			dir = path.Dir(dir)
		}
		if dir == source || dir == "." {
			continue
		}
		for _, pattern := range step.Exclude {
			rest, negative := strings.CutPrefix(pattern, "!")
			if rest = path.Join(dir, rest); negative {
				rest = "!" + rest
			}
			exclude = append(exclude, rest)
		}
	}
	return sources, exclude
}

// paths are the arguments of an instruction that copies.
func paths(names []string) string {
	escaped := make([]string, len(names))
	for i, name := range names {
		escaped[i] = literal(name)
	}
	if plain := strings.Join(escaped, " "); len(strings.Fields(plain)) == len(names) && !strings.ContainsAny(plain, `"'<[`) {
		return plain
	}
	return jsonList(escaped)
}

// file writes a file with a shell, as older builders have nothing else.
func (d *dockerStage) file(step recipe.File) {
	if d.st.From == "scratch" {
		d.note("the next instruction needs a shell in the image.")
	}
	d.asRoot(func() { d.chain(nil, writeFile(d.st, step)...) })
}
