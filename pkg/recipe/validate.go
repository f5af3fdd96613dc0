package recipe

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Validate checks everything that can be known without a host: names,
// references, forms, cycles, and secrets in places where they would be stored.
// It returns Errors. Parse has done it already; a Recipe that was made in Go
// is validated when it is built.
func (r *Recipe) Validate() error {
	v := newValidator(r)
	v.recipe()
	return v.errs.orNil()
}

// validate places the validator's errors in the file.
func (d *decoder) validate(r *Recipe) {
	v := newValidator(r)
	v.recipe()
	for _, e := range v.errs {
		if d.isBroken(e.Path) {
			continue
		}
		n := d.nearest(e.Path)
		placed := d.at(n.Line, n.Column, e.Message)
		placed.Path, placed.Suggestion = e.Path, e.Suggestion
		d.errs.add(placed)
	}
}

// isBroken says whether something at, in or around path was not decoded.
func (d *decoder) isBroken(path string) bool {
	for b := range d.broken {
		if b == path || within(b, path) || within(path, b) {
			return true
		}
	}
	return false
}

func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// nearest is the node at path, or the one around it.
func (d *decoder) nearest(path string) *yaml.Node {
	for {
		if n, ok := d.nodes[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return d.nodes[""]
		}
		path = path[:i]
	}
}

type validator struct {
	r    *Recipe
	errs Errors
	// literal is set when the arguments are replaced already: then ${ is
	// text like any other.
	literal bool
}

func newValidator(r *Recipe) *validator { return &validator{r: r} }

func (v *validator) fail(path, format string, args ...any) *Error {
	e := &Error{Path: path, Message: fmt.Sprintf(format, args...)}
	v.errs.add(e)
	return e
}

var (
	stageName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	secretID   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

func (v *validator) recipe() {
	r := v.r
	if r.Version != Version {
		v.fail("version", "the version must be %d, the one that this pdibuild reads", Version)
	}
	if r.Name != "" && !v.hasReference(r.Name) && !repository.MatchString(r.Name) {
		v.fail("name", "%q is not an image name without a tag; it looks like registry.example.org/group/name, in lower case", r.Name)
	}
	if r.SourceDateEpoch < 0 {
		v.fail("source_date_epoch", "must be seconds since 1970")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Args)) {
		if !identifier.MatchString(name) {
			v.fail("args."+name, "%q cannot be the name of an argument; use letters, digits and _", name)
		}
		if _, ok := r.Secrets[name]; ok {
			v.fail("args."+name, "%q is a secret, too; an argument is stored in the image's history, so give it another name", name)
		}
	}
	v.secrets()
	if len(r.Stages) == 0 {
		v.fail("stages", "a recipe needs at least one stage")
	}
	seen := map[string]bool{}
	for i := range r.Stages {
		path := fmt.Sprintf("stages[%d]", i)
		name := r.Stages[i].Name
		switch {
		case name == "":
			v.fail(path, "the stage needs a name")
		case !stageName.MatchString(name) || name == "scratch":
			v.fail(path+".name", "%q cannot be the name of a stage; use letters, digits, . _ and -", name)
		case seen[name]:
			v.fail(path+".name", "there is a stage %q already", name)
		}
		seen[name] = true
		v.stage(path, &r.Stages[i])
	}
	v.cycles()
	if !v.literal {
		walker{v.argument}.recipe(clone(r))
	}
}

func (v *validator) secrets() {
	for _, id := range slices.Sorted(maps.Keys(v.r.Secrets)) {
		path, s := "secrets."+id, v.r.Secrets[id]
		if !secretID.MatchString(id) {
			v.fail(path, "%q cannot be the id of a secret; use letters, digits, _ . and -", id)
		}
		if s.Env != "" && s.File != "" {
			v.fail(path, "a secret comes from env or from file, not from both")
		}
		if s.Env != "" && !identifier.MatchString(s.Env) {
			v.fail(path+".env", "%q cannot be the name of an environment variable", s.Env)
		}
	}
}

func (v *validator) stage(path string, st *Stage) {
	v.from(path, st)
	v.bootstrap(path+".bootstrap", st)
	if st.Platform != "" && !platform.MatchString(st.Platform) && !v.hasReference(st.Platform) {
		v.fail(path+".platform", "%q is not a platform; it looks like linux/amd64 or linux/arm64", st.Platform)
	}
	v.env(path+".env", st.Env)
	if len(st.Shell) > 0 && st.Shell[0] == "" {
		v.fail(path+".shell[0]", "must be a program such as /bin/sh")
	}
	for i, s := range st.Steps {
		if s == nil {
			v.fail(fmt.Sprintf("%s.steps[%d]", path, i), "the step is missing")
			continue
		}
		v.step(fmt.Sprintf("%s.steps[%d]", path, i), st, s)
	}
	v.image(path, st)
}

// image checks what a stage says about its image.
func (v *validator) image(path string, st *Stage) {
	if c := st.Compiler; c != nil {
		for key, p := range map[string]string{"cc": c.CC, "cxx": c.CXX, "fc": c.FC} {
			if p != "" {
				v.absolute(path+".compiler."+key, p)
			}
		}
		if *c == (Compiler{}) {
			v.fail(path+".compiler", "name at least one of cc, cxx and fc")
		}
	}
	if st.Workdir != "" {
		v.absolute(path+".workdir", st.Workdir)
	}
	for key, c := range map[string]*Command{"entrypoint": st.Entrypoint, "cmd": st.Cmd} {
		if c != nil {
			v.command(path+"."+key, *c)
			v.stored(path+"."+key, append([]string{c.Shell}, c.Argv...)...)
		}
	}
	for key, m := range map[string]map[string]string{"labels": st.Labels, "annotations": st.Annotations} {
		if _, ok := m[""]; ok {
			v.fail(path+"."+key, "a key must not be empty")
		}
	}
	for i, p := range st.Expose {
		if !v.hasReference(p) && !validPort(p) {
			v.fail(fmt.Sprintf("%s.expose[%d]", path, i), "%q is not a port; it looks like 8080 or 53/udp", p)
		}
	}
	for i, p := range st.Volumes {
		v.absolute(fmt.Sprintf("%s.volumes[%d]", path, i), p)
	}
	if st.StopSignal != "" && !signalName.MatchString(st.StopSignal) {
		v.fail(path+".stop_signal", "%q is not a signal; it looks like SIGTERM or 15", st.StopSignal)
	}
}

var signalName = regexp.MustCompile(`^(SIG(HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|RTMIN(\+[0-9]+)?|RTMAX(-[0-9]+)?)|[1-9]|[1-5][0-9]|6[0-4])$`)

func validPort(s string) bool {
	number, protocol, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	return err == nil && n >= 1 && n <= 65535 && (!ok || slices.Contains([]string{"tcp", "udp", "sctp"}, protocol))
}

// The forms of image names, after the grammar of OCI references:
// https://github.com/distribution/reference.
const (
	component = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
	domain    = `[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?`
	host      = `(?:(?:localhost|` + domain + `(?:\.` + domain + `)+|` + domain + `:[0-9]+)(?::[0-9]+)?/)?`
	repoName  = host + component + `(?:/` + component + `)*`
)

var (
	repository = regexp.MustCompile(`^` + repoName + `$`)
	imageName  = regexp.MustCompile(`^` + repoName + `(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`)
	imageTag   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	platform   = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?$`)
)

// transports with which from may begin.
var transports = []string{"docker", "oci", "oci-archive", "docker-archive", "dir", "containers-storage", "debootstrap", "mmdebstrap"}

func (v *validator) from(path string, st *Stage) {
	path += ".from"
	transport, rest, ok := strings.Cut(st.From, ":")
	switch {
	case st.From == "":
		v.fail(strings.TrimSuffix(path, ".from"), "the stage needs a from: an image, a stage, scratch or mmdebstrap:SUITE")
	case st.From == "scratch", v.r.Stage(st.From) != nil, v.hasReference(st.From):
	case ok && slices.Contains(transports, transport):
		if rest == "" || (transport == "docker" && !imageName.MatchString(strings.TrimPrefix(rest, "//"))) {
			v.fail(path, "%q says not what to take from %s", st.From, transport)
		}
	case !imageName.MatchString(st.From):
		e := v.fail(path, "%q is neither a stage nor an image name", st.From)
		e.Suggestion = closest(st.From, v.stageNames())
	case !strings.ContainsAny(st.From, "/:@"):
		// A bare word may be a short image name; close to a stage it is a slip.
		if s := closest(st.From, v.stageNames()); s != "" {
			v.fail(path, "there is no stage %q", st.From).Suggestion = s
		}
	}
}

func (v *validator) stageNames() []string {
	var names []string
	for i := range v.r.Stages {
		names = append(names, v.r.Stages[i].Name)
	}
	return names
}

func (v *validator) bootstrap(path string, st *Stage) {
	b := st.Bootstrap
	if b == nil {
		return
	}
	if !strings.HasPrefix(st.From, "debootstrap:") && !strings.HasPrefix(st.From, "mmdebstrap:") {
		v.fail(path, "is for stages that start from debootstrap:SUITE or mmdebstrap:SUITE")
	}
	for i, p := range b.Packages {
		if strings.ContainsAny(p, ", \t\n") || p == "" || strings.HasPrefix(p, "-") {
			v.fail(fmt.Sprintf("%s.packages[%d]", path, i), "%q is not a package name; write one package per item", p)
		}
	}
	for key, s := range map[string]string{"mirror": b.Mirror, "variant": b.Variant, "keyring": b.Keyring} {
		if strings.HasPrefix(s, "-") {
			v.fail(path+"."+key, "must not begin with -")
		}
	}
}

func (v *validator) env(path string, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !identifier.MatchString(name) {
			v.fail(path+"."+name, "%q cannot be the name of an environment variable", name)
		}
		if strings.ContainsRune(env[name], 0) {
			v.fail(path+"."+name, "must not contain a zero byte")
		}
	}
}

func (v *validator) absolute(path, name string) {
	switch {
	case name == "":
		v.fail(path, "%q must be an absolute path, and is empty", path[strings.LastIndexByte(path, '.')+1:])
	case strings.ContainsRune(name, 0):
		v.fail(path, "must not contain a zero byte")
	case !strings.HasPrefix(name, "/") && !v.hasReference(name):
		v.fail(path, "%q must be an absolute path", name)
	}
}

func (v *validator) command(path string, c Command) {
	switch {
	case c.Shell == "" && len(c.Argv) == 0, len(c.Argv) > 0 && c.Argv[0] == "":
		v.fail(path, "the command is empty")
	case c.Shell != "" && len(c.Argv) > 0:
		v.fail(path, "a command is a string or a list, not both")
	}
	if strings.ContainsRune(c.Shell+strings.Join(c.Argv, ""), 0) {
		v.fail(path, "must not contain a zero byte")
	}
}

// cycles reports stages that need one another.
func (v *validator) cycles() {
	done := map[string]bool{}
	var trail []string
	var visit func(name string) bool
	visit = func(name string) bool {
		if i := slices.Index(trail, name); i >= 0 {
			loop := append(slices.Clone(trail[i:]), name)
			index := slices.IndexFunc(v.r.Stages, func(s Stage) bool { return s.Name == name })
			v.fail(fmt.Sprintf("stages[%d]", index), "stages need one another in a circle: %s", strings.Join(loop, " → "))
			return true
		}
		st := v.r.Stage(name)
		if done[name] || st == nil {
			return false
		}
		trail = append(trail, name)
		for _, need := range st.Needs(v.r) {
			if visit(need) {
				return true
			}
		}
		trail = trail[:len(trail)-1]
		done[name] = true
		return false
	}
	for i := range v.r.Stages {
		if visit(v.r.Stages[i].Name) {
			return
		}
	}
}
