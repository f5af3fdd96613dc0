package containerfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A call is a command with what is done before it.
type call struct {
	command recipe.Command
	flags   []string
	// before are lines of a POSIX shell.
	before []string
}

// run writes a run step.
func (d *dockerStage) run(step recipe.Run) {
	c := call{command: step.Command, before: d.before(step.Env, step.Workdir)}
	if step.Network == "none" {
		c.flags = append(c.flags, "--network=none")
	}
	user := d.user
	if step.User != "" {
		user = step.User
	}
	for _, m := range step.Mounts {
		c.flags = append(c.flags, d.mount(m))
	}
	for _, use := range step.Secrets {
		u := secretUse{id: use.ID, target: use.Target, variable: use.Env, optional: d.recipe.Secrets[use.ID].Optional}
		c.flags = append(c.flags, u.flag(user))
		if use.Env != "" {
			c.before = append(c.before, u.export())
		}
	}
	d.asUser(user, func() { d.call(c) })
}

// before are variables and a directory that are for one command alone.
func (d *dockerStage) before(env map[string]string, workdir string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		lines = append(lines, "export "+name+"="+shellValue(env[name]))
	}
	if workdir != "" {
		lines = append(lines, "cd "+shellquote.Word(workdir)+" || exit 1")
	}
	return lines
}

// mount is an option of RUN.
func (d *dockerStage) mount(m recipe.Mount) string {
	options := []string{"type=" + m.Type, "target=" + m.Target}
	add := func(name, value string) {
		if value != "" {
			options = append(options, name+"="+value)
		}
	}
	if m.From != "" {
		add("from", d.names[m.From])
	}
	add("source", m.Source)
	add("id", m.ID)
	if m.Type == "tmpfs" {
		add("tmpfs-size", m.Size)
	}
	if m.Owner != "" {
		uid, gid, ok := d.ownerIDs(m.Owner)
		if !ok && m.Mode == "" {
			m.Mode = "0777"
			d.note("the owner %s of the cache %s has to be a number here; everybody may write to it instead.", m.Owner, m.Target)
		}
		add("uid", uid)
		add("gid", gid)
	}
	add("mode", m.Mode)
	if m.Write {
		options = append(options, "rw")
	}
	return "--mount=" + strings.Join(options, ",")
}

// ownerIDs are the numbers of an owner whose account the recipe makes.
func (d *dockerStage) ownerIDs(owner string) (uid, gid string, ok bool) {
	user, group, hasGroup := strings.Cut(owner, ":")
	uid, gid = d.accountIDs(user)
	if hasGroup {
		if _, gid = d.accountIDs(group); gid == "" {
			gid = group
		}
	}
	if strings.Trim(uid+gid, "0123456789") != "" || uid == "" {
		return "", "", false
	}
	return uid, gid, true
}

// accountIDs are those of a user that the stage, or one below it, creates, or a
// uid alone where name is one.
func (d *dockerStage) accountIDs(name string) (uid, gid string) {
	for st := d.st; st != nil; st = d.recipe.Stage(st.From) {
		u := account(st, name)
		if u == nil {
			continue
		}
		if u.GID == 0 {
			return strconv.Itoa(u.UID), strconv.Itoa(u.UID)
		}
		return strconv.Itoa(u.UID), strconv.Itoa(u.GID)
	}
	if name == "root" {
		return "0", "0"
	}
	return name, ""
}

// flag is the secret as an option of RUN.
func (u secretUse) flag(user string) string {
	options := []string{"type=secret", "id=" + u.id}
	if u.target != "" {
		options = append(options, "target="+u.target)
	}
	if !u.optional {
		options = append(options, "required=true")
	}
	if user != "root" && user != "0" {
		options = append(options, "mode=0444")
	}
	return "--mount=" + strings.Join(options, ",")
}

// export sets the variable with the secret.
func (u secretUse) export() string {
	file := u.target
	if file == "" {
		file = "/run/secrets/" + u.id
	}
	return fmt.Sprintf(`if [ -r %s ]; then export %s="$(cat %s)"; fi`, shellquote.Word(file), u.variable, shellquote.Word(file))
}

// call writes a RUN instruction.
func (d *dockerStage) call(c call) {
	flags := strings.Join(append(slices.Clone(c.flags), ""), " \\\n    ")
	argv := c.command.Argv
	if len(argv) == 0 && len(d.st.Shell) > 0 {
		argv = append(slices.Clone(d.st.Shell), c.command.Shell)
	}
	switch {
	case len(argv) > 0 && len(c.before) > 0:
		script := strings.Join(append(slices.Clone(c.before), `exec "$@"`), "\n")
		d.line("RUN %s%s", flags, jsonList(append([]string{"/bin/sh", "-c", script, "sh"}, argv...)))
	case len(argv) > 0:
		d.line("RUN %s%s", flags, jsonList(argv))
	default:
		script := strings.Join(append(slices.Clone(c.before), strings.TrimRight(c.command.Shell, "\n")), "\n")
		d.line("RUN %s%s", flags, oneInstruction(script))
	}
}

// oneInstruction is a script as the text of one RUN instruction. One of several
// lines, or one in which a builder would see what it is not, is printed and
// evaluated, which works with builders that know no here-documents.
func oneInstruction(script string) string {
	trimmed := strings.TrimSpace(script)
	plain := trimmed != "" && !strings.ContainsAny(trimmed, "\n\r") && !strings.HasSuffix(trimmed, `\`) &&
		!strings.Contains(trimmed, "<<") && !strings.ContainsAny(trimmed[:1], "#[-")
	if plain {
		return trimmed
	}
	return `eval "$(` + printLines(script+"\n") + `)"`
}

// finish writes what is set and done at the end of a stage.
func (d *dockerStage) finish(checks []recipe.Check) {
	st := d.st
	d.env(compilerEnv(st.Compiler))
	if st.Compiler != nil {
		d.comment("The compilers work.")
		d.chain(nil, compilerProof(st.Compiler)...)
	}
	if st.Workdir != "" {
		d.line("WORKDIR %s", literal(st.Workdir))
	}
	for i, c := range checks {
		if i == 0 {
			d.note("what a check writes stays in the image; pdibuild throws it away.")
		}
		d.check(c)
	}
	d.labels()
	for _, port := range st.Expose {
		d.line("EXPOSE %s", port)
	}
	if len(st.Volumes) > 0 {
		d.line("VOLUME %s", jsonList(st.Volumes))
	}
	if st.StopSignal != "" {
		d.line("STOPSIGNAL %s", st.StopSignal)
	}
	d.start("ENTRYPOINT", st.Entrypoint)
	d.start("CMD", st.Cmd)
}

func (d *dockerStage) check(c recipe.Check) {
	before := d.before(c.Env, c.Workdir)
	if d.activate != "" {
		before = append([]string{". " + d.activate + "/activate.sh"}, before...)
	}
	user := d.user
	if c.User != "" {
		user = c.User
	}
	d.asUser(user, func() { d.call(call{command: c.Command, before: before}) })
}

func (d *dockerStage) labels() {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(d.st.Labels)) {
		if strings.Contains(d.st.Labels[name], "\n") {
			d.note("the label %s is left out: its value has several lines.", name)
			continue
		}
		pairs = append(pairs, quotedLiteral(name)+"="+quotedLiteral(d.st.Labels[name]))
	}
	if len(pairs) > 0 {
		d.line("LABEL %s", strings.Join(pairs, " \\\n      "))
	}
}

// start writes ENTRYPOINT or CMD.
func (d *dockerStage) start(instruction string, c recipe.Command) {
	switch {
	case c.IsZero():
	case instruction == "ENTRYPOINT" && c.Shell == "activate":
		d.line("ENTRYPOINT %s", jsonList([]string{entrypoint}))
	default:
		d.line("%s %s", instruction, jsonList(argv(d.st, c)))
	}
}

// argv is a command without the need of a shell that somebody else knows.
func argv(st *recipe.Stage, c recipe.Command) []string {
	if len(c.Argv) > 0 {
		return c.Argv
	}
	shell := st.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), c.Shell)
}
