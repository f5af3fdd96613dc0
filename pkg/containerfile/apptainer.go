package containerfile

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// startscript is where Apptainer has what it runs for an instance.
const startscript = "/.singularity.d/startscript"

// definition writes an Apptainer definition file.
func (s *source) definition() ([]byte, error) {
	t := &text{}
	t.comment("Build it with:  apptainer build IMAGE.sif FILE")
	for i, name := range s.order {
		d := &definitionStage{text: t, source: s, st: s.recipe.Stage(name)}
		if err := d.write(i == len(s.order)-1); err != nil {
			return nil, errors.New("stage " + name + ": " + err.Error())
		}
	}
	return t.Bytes(), nil
}

// A definitionStage is a stage being written. A section of a definition file
// is there once, so the steps are sorted into sections.
type definitionStage struct {
	*text
	*source
	st *recipe.Stage
	// files are the lines of %files by the stage that they come from.
	files map[string][]string
	from  []string
	// post are the commands of %post, env the lines of %environment, tests
	// those of %test.
	post, env, tests []string
	start            string
	// activate is the directory of the environment that the stage has got.
	activate string
}

func (d *definitionStage) write(last bool) error {
	d.files = map[string][]string{}
	d.line("")
	d.bootstrap()
	d.setEnv(d.st.Env)
	for _, step := range d.st.Steps {
		if err := d.step(step); err != nil {
			return err
		}
	}
	d.setEnv(compilerEnv(d.st.Compiler))
	if d.st.Compiler != nil {
		d.post = append(d.post, "( "+strings.Join(compilerProof(d.st.Compiler), " && ")+" )")
	}
	for _, from := range d.from {
		title := "%files"
		if from != "" {
			title += " from " + from
		}
		d.section(title, strings.Join(d.files[from], "\n"))
	}
	d.section("%post", strings.Join(d.post, "\n"))
	if last {
		d.finish()
	}
	return nil
}

// bootstrap begins the stage.
func (d *definitionStage) bootstrap() {
	from := d.st.From
	agent, rest, ok := strings.Cut(from, ":")
	image, packages, boot := bootstrapped(d.st)
	switch {
	case d.recipe.Stage(from) != nil:
		d.note("Apptainer starts no stage from another: the next two lines name what %s starts from; add the steps of %s to this %%post.", from, from)
		for st := d.recipe.Stage(from); st != nil; st = d.recipe.Stage(st.From) {
			from = st.From
		}
		agent = "docker"
	case boot:
		d.note("pdibuild makes %s from the distribution's mirror; here it is the image that comes nearest.", from)
		agent, from = "docker", image
		d.post = append(d.post, "apt-get update && apt-get install -y --no-install-recommends "+quoteAll(append([]string{"ca-certificates"}, packages...)))
	case from == "scratch":
		agent, from = "scratch", ""
	case ok && slices.Contains([]string{"oci", "oci-archive", "docker-archive"}, agent):
		from = rest
	default:
		agent, from = "docker", strings.TrimPrefix(from, "docker://")
	}
	d.line("Bootstrap: %s", agent)
	if from != "" {
		d.line("From: %s", from)
	}
	d.line("Stage: %s", d.st.Name)
}

// section writes a section unless it is empty.
func (d *definitionStage) section(title, content string) {
	if strings.TrimSpace(content) == "" {
		return
	}
	d.line("\n%s\n%s", title, strings.TrimRight(content, "\n"))
}

// setEnv sets variables for the commands and the image.
func (d *definitionStage) setEnv(env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		line := "export " + name + "=" + shellValue(env[name])
		d.post, d.env = append(d.post, line), append(d.env, line)
	}
}

func (d *definitionStage) take(from, line string) {
	if !slices.Contains(d.from, from) {
		d.from = append(d.from, from)
	}
	d.files[from] = append(d.files[from], "  "+line)
}

func (d *definitionStage) step(step recipe.Step) error {
	switch step := step.(type) {
	case recipe.Run:
		d.run(step)
	case recipe.Copy:
		d.copy(step)
	case recipe.File:
		d.file(step)
	case recipe.Env:
		d.setEnv(step.Env)
	case recipe.Workdir:
		d.post = append(d.post, "mkdir -p "+shellquote.Word(step.Workdir)+" && cd "+shellquote.Word(step.Workdir))
	case recipe.User:
		if creates(step.User) {
			d.post = append(d.post, strings.Join(addUser(step.User), " && "))
		}
		d.post = append(d.post, "# NOTE: an Apptainer image has no user: it runs as who starts it.")
	case recipe.Check:
		d.tests = append(d.tests, d.command(step.Command, step.Env, step.Workdir))
	case recipe.Spack:
		return d.spack(step.Spack)
	case recipe.Environment:
		return d.environmentStep(step)
	}
	return nil
}

// command is a command for a shell. What it sets ends with it.
func (d *definitionStage) command(c recipe.Command, env map[string]string, workdir string) string {
	before := (&dockerStage{}).before(env, workdir)
	script := c.Shell
	if len(c.Argv) > 0 || len(d.st.Shell) > 0 {
		script = quoteAll(argv(d.st, c))
	}
	return strings.Join(append(append([]string{"("}, before...), strings.TrimRight(script, "\n"), ")"), "\n")
}

func (d *definitionStage) run(step recipe.Run) {
	if len(step.Secrets) > 0 {
		d.post = append(d.post, "# NOTE: a definition file has no secrets: give the next command what it needs.")
	}
	if len(step.Mounts) > 0 {
		d.post = append(d.post, "# NOTE: a definition file has no mounts: bind them with 'apptainer build --bind'.")
	}
	if step.User != "" {
		d.post = append(d.post, "# NOTE: the next command should run as "+step.User+"; %post runs as root.")
	}
	if step.Network == "none" {
		d.post = append(d.post, "# NOTE: the next command should have no network.")
	}
	d.post = append(d.post, d.command(step.Command, step.Env, step.Workdir))
}

func (d *definitionStage) copy(step recipe.Copy) {
	if step.Checksum != "" {
		to := step.To
		if strings.HasSuffix(to, "/") {
			to += path.Base(step.Sources[0])
		}
		d.post = append(d.post, "mkdir -p "+shellquote.Word(path.Dir(to))+" && curl -fsSL -o "+shellquote.Word(to)+" "+shellquote.Word(step.Sources[0]),
			"echo "+shellquote.Word(strings.TrimPrefix(step.Checksum, "sha256:")+"  "+to)+" | sha256sum -c -")
	} else {
		for _, source := range step.Sources {
			d.take(step.From, source+" "+step.To)
		}
	}
	if len(step.Exclude) > 0 {
		d.post = append(d.post, "# NOTE: %files copies all of "+step.To+", also what the recipe leaves out.")
	}
	if step.Owner != "" {
		d.post = append(d.post, "chown -R "+shellquote.Word(withGroup(owner(d.st, step.Owner)))+" "+shellquote.Word(step.To))
	}
	if step.Mode != "" {
		d.post = append(d.post, "find "+shellquote.Word(step.To)+" -type f -exec chmod "+step.Mode+" {} +")
	}
}

func (d *definitionStage) file(step recipe.File) {
	if step.Path == startscript {
		d.start = strings.TrimPrefix(step.Content, "#!/bin/sh\n")
		return
	}
	d.post = append(d.post, strings.Join(writeFile(d.st, step), " && "))
}

func (d *definitionStage) spack(step recipe.SpackInstall) error {
	e, err := d.environment(step)
	if err != nil {
		return err
	}
	if step.Spack != nil && step.Spack.Path != "" {
		d.take("", step.Spack.Path+" /opt/spack")
	} else if step.Spack != nil {
		d.post = append(d.post, "( "+strings.Join(spackSource(step.Spack), " && ")+" )")
	}
	for _, f := range e.files {
		d.take("", f.from+" "+f.to)
	}
	d.post = append(d.post, "# The environment.", "mkdir -p "+shellquote.Word(e.dir), printLines(e.manifest)+" > "+shellquote.Word(e.dir+"/spack.yaml"))
	if len(e.secrets(d.recipe)) > 0 {
		d.post = append(d.post, "# NOTE: a definition file has no secrets: the mirrors are used without credentials.")
	}
	commands := [][]string{e.install(), e.collect()}
	if step.Strip {
		commands = append(commands, []string{e.strip()})
	}
	for _, c := range append(commands, e.activate()) {
		d.post = append(d.post, "( "+strings.Join(c, " && ")+" )")
	}
	return nil
}

func (d *definitionStage) environmentStep(step recipe.Environment) error {
	e, err := d.find(step)
	if err != nil {
		return err
	}
	for _, dir := range e.taken() {
		d.take(step.From, dir+" "+path.Dir(dir))
	}
	d.post = append(d.post,
		"mkdir -p "+path.Dir(profile)+" && echo '. "+e.dir+"/activate.sh' > "+profile,
		`cat `+shellquote.Word(e.dir+"/activate.sh")+` >> "${APPTAINER_ENVIRONMENT:-$SINGULARITY_ENVIRONMENT}"`,
	)
	d.activate = e.dir
	return nil
}

// finish writes the sections of the image.
func (d *definitionStage) finish() {
	st := d.st
	d.section("%environment", strings.Join(d.env, "\n"))
	d.section("%runscript", d.runscript())
	d.section("%startscript", d.start)
	tests := d.tests
	if d.activate != "" && len(tests) > 0 {
		tests = append([]string{". " + d.activate + "/activate.sh"}, tests...)
	}
	d.section("%test", strings.Join(tests, "\n"))
	const description = "org.opencontainers.image.description"
	d.section("%help", st.Labels[description])
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(st.Labels)) {
		if strings.Contains(st.Labels[name], "\n") {
			continue // it is the help, or has no place here
		}
		labels = append(labels, "  "+name+" "+st.Labels[name])
	}
	d.section("%labels", strings.Join(labels, "\n"))
}

// runscript is what `apptainer run` runs. The environment is active then.
func (d *definitionStage) runscript() string {
	st := d.st
	if c := st.Cmd; len(c.Argv) == 4 && c.Argv[0] == "/bin/sh" && c.Argv[1] == "-c" && c.Argv[3] == "runscript" {
		return c.Argv[2] // it was one in the container: section
	}
	var entry []string
	if !st.Entrypoint.IsZero() && st.Entrypoint.Shell != "activate" {
		entry = argv(st, st.Entrypoint)
	}
	lines := []string(nil)
	if st.Workdir != "" {
		lines = append(lines, "cd "+shellquote.Word(st.Workdir))
	}
	if !st.Cmd.IsZero() {
		lines = append(lines, `[ "$#" -gt 0 ] || set -- `+quoteAll(argv(st, st.Cmd)))
	}
	if len(entry) == 0 && st.Cmd.IsZero() {
		return ""
	}
	return strings.Join(append(lines, strings.TrimSpace("exec "+quoteAll(entry))+` "$@"`), "\n")
}
