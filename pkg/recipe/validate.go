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
	for b := range d.broken {
		v.unsureStages = v.unsureStages || stageNamePath.MatchString(b)
		v.unsureSecrets = v.unsureSecrets || b == "secrets"
		v.unsureArgs = v.unsureArgs || b == "args"
	}
	v.recipe()
	for _, e := range v.errs {
		if d.isBroken(e.Path) {
			continue
		}
		n := d.nearest(e.Path)
		placed := d.at(n.Line, n.Column, subject(e.Path, e.Message))
		placed.Path, placed.Suggestion = e.Path, e.Suggestion
		d.errs.add(placed)
	}
}

var stageNamePath = regexp.MustCompile(`^stages(\[[0-9]+\](\.name)?)?$`)

// isBroken says whether something at, in or around path was not decoded.
func (d *decoder) isBroken(path string) bool {
	if d.broken[""] {
		return true
	}
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
	// Not all stages, secrets or arguments could be decoded, so that one
	// which is not there may be one of these.
	unsureStages, unsureSecrets, unsureArgs bool
	// secretNames has the secret for each id and each host variable.
	secretNames map[string]string
}

func newValidator(r *Recipe) *validator {
	v := &validator{r: r, secretNames: map[string]string{}}
	ids := slices.Sorted(maps.Keys(r.Secrets))
	for _, id := range ids {
		v.secretNames[id] = id
	}
	for _, id := range ids {
		if env := r.Secrets[id].Env; env != "" && v.secretNames[env] == "" {
			v.secretNames[env] = id
		}
	}
	return v
}

func (v *validator) fail(path, format string, args ...any) *Error {
	e := &Error{Path: path, Message: fmt.Sprintf(format, args...)}
	v.errs.add(e)
	return e
}

// Limits on what one recipe has. They are far above what anybody writes.
const (
	maxNames = 1000         // stages, secrets, arguments: of each
	maxEpoch = 253402300799 // the last second of the year 9999
)

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
	if e := r.Epoch(); e < 0 || e > maxEpoch {
		v.fail("source_date_epoch", "must be seconds since 1970, and before the year 10000")
	}
	v.args()
	v.secrets()
	switch {
	case len(r.Stages) == 0:
		v.fail("stages", "a recipe needs at least one stage")
	case max(len(r.Stages), len(r.Secrets), len(r.Args)) > maxNames:
		v.fail("", "a recipe has at most %d stages, %d secrets and %d arguments", maxNames, maxNames, maxNames)
		return
	}
	seen := map[string]bool{}
	for i := range r.Stages {
		path := fmt.Sprintf("stages[%d]", i)
		v.stageName(path, r.Stages[i].Name, seen)
		v.stage(path, &r.Stages[i])
	}
	v.cycles()
	if !v.literal {
		walker{v.argument}.recipe(clone(r))
	}
}

func (v *validator) stageName(path, name string, seen map[string]bool) {
	switch {
	case name == "":
		v.fail(path+".name", "the stage needs a name")
	case name == "scratch":
		v.fail(path+".name", "%q is the empty image; give the stage another name", name)
	case !stageName.MatchString(name):
		v.fail(path+".name", "%q cannot be the name of a stage; use letters, digits, . _ and -", name)
	case seen[name]:
		v.fail(path+".name", "there is a stage %q already", name)
	}
	seen[name] = true
}

func (v *validator) args() {
	for _, name := range slices.Sorted(maps.Keys(v.r.Args)) {
		path := "args." + name
		if !identifier.MatchString(name) {
			v.fail(path, "%q cannot be the name of an argument; use letters, digits and _", name)
		}
		if strings.ContainsRune(v.r.Args[name], 0) {
			v.fail(path, "must not contain a zero byte")
		}
		if id, ok := v.secretNames[name]; ok && id == name {
			v.fail(path, "%q is a secret, too; an argument is stored in the image's history, so give it another name", name)
		} else if ok {
			v.fail(path, "%q is the host variable of the secret %q, too; an argument is stored in the image's history, so give it another name", name, id)
		}
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
	switch {
	case len(st.Shell) > 0 && st.Shell[0] == "":
		v.fail(path+".shell[0]", "must be a program such as /bin/sh")
	case len(st.Shell) == 1:
		v.fail(path+".shell", "needs the option that runs a string, too; it looks like [%s, -c]", st.Shell[0])
	}
	for i, s := range st.Steps {
		p := fmt.Sprintf("%s.steps[%d]", path, i)
		if s == nil {
			v.fail(p, "the step is missing")
			continue
		}
		v.step(p, st, s)
	}
	v.workdirs(path, st)
	v.spackNames(path, st)
	v.image(path, st)
}

// workdirs reports relative directories that have nothing to start from, for
// what a base image has there is for others to change.
func (v *validator) workdirs(path string, st *Stage) {
	known := false
	check := func(path, dir string) {
		if dir != "" && !strings.HasPrefix(dir, "/") && !known && !v.hasReference(dir) {
			v.fail(path, "%q must be an absolute path, as no workdir step is before it", dir)
		}
	}
	for i, s := range st.Steps {
		p := fmt.Sprintf("%s.steps[%d].workdir", path, i)
		switch s := s.(type) {
		case Workdir:
			check(p, s.Workdir)
			known = true
		case Run:
			check(p, s.Workdir)
		case Check:
			if st.Workdir == "" {
				check(p, s.Workdir)
			}
		}
	}
}

// image checks what a stage says about its image.
func (v *validator) image(path string, st *Stage) {
	v.activation(path, st)
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
		v.imagePath(path+".workdir", st.Workdir)
	}
	for key, c := range map[string]Command{"entrypoint": st.Entrypoint, "cmd": st.Cmd} {
		if !c.IsZero() {
			v.command(path+"."+key, c)
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
	n, err := strconv.ParseUint(number, 10, 16)
	return err == nil && n >= 1 && (!ok || slices.Contains([]string{"tcp", "udp", "sctp"}, protocol))
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
func transports() []string {
	return []string{"docker", "oci", "oci-archive", "docker-archive", "dir", "containers-storage", "debootstrap", "mmdebstrap"}
}

var suite = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_/-]*$`)

func (v *validator) from(path string, st *Stage) {
	path += ".from"
	transport, rest, ok := strings.Cut(st.From, ":")
	switch {
	case st.From == "":
		v.fail(path, "the stage needs a from: an image, a stage, scratch or mmdebstrap:SUITE")
	case st.From == "scratch", v.r.Stage(st.From) != nil, v.hasReference(st.From):
	case ok && slices.Contains(transports(), transport):
		v.transport(path, st.From, transport, rest)
	case strings.Contains(st.From, "://"):
		e := v.fail(path, "%q is not a kind of image that is known; these are %s", transport, strings.Join(transports(), ", "))
		e.Suggestion = closest(transport, transports())
	case !imageName.MatchString(st.From):
		e := v.fail(path, "%q is neither a stage nor an image name", st.From)
		e.Suggestion = closest(st.From, v.stageNames())
		if lower := strings.ToLower(st.From); e.Suggestion == "" && imageName.MatchString(lower) {
			e.Suggestion = lower
		}
	case !strings.ContainsAny(st.From, "/:@") && !v.unsureStages:
		// A bare word may be a short image name; close to a stage it is a slip.
		if s := closest(st.From, v.stageNames()); s != "" {
			v.fail(path, "there is no stage %q", st.From).Suggestion = s
		}
	case ok && len(transport) > len("docker") && closest(transport, transports()) != "":
		// An image of such a name is less likely than a slip.
		v.fail(path, "there is no kind of image %q", transport).Suggestion = closest(transport, transports())
	}
}

// transport checks what follows the transport of a from.
func (v *validator) transport(path, from, transport, rest string) {
	image, slashes := strings.CutPrefix(rest, "//")
	switch {
	case rest == "":
		v.fail(path, "%q does not say what to take; it looks like %s:NAME", from, transport)
	case transport == "docker" && !slashes:
		v.fail(path, "%q needs two slashes, docker://IMAGE; the image named docker is docker.io/library/%s", from, from)
	case transport == "docker" && !imageName.MatchString(image):
		v.fail(path, "%q is not an image name", image)
	case strings.HasSuffix(transport, "debootstrap") || transport == "mmdebstrap":
		if !suite.MatchString(rest) {
			v.fail(path, "%q is not the name of a distribution's release; it looks like %s:bookworm", rest, transport)
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
	if !strings.HasPrefix(st.From, "debootstrap:") && !strings.HasPrefix(st.From, "mmdebstrap:") && !v.hasReference(st.From) {
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

// imagePath reports what cannot be the path of a file in an image.
func (v *validator) imagePath(path, name string) {
	v.absolute(path, name)
	v.storable(path, name)
}

// storable reports names that remove a file where a layer has them.
func (v *validator) storable(path, name string) {
	if strings.Contains("/"+name, "/.wh.") {
		v.fail(path, "%q cannot be in an image: in a layer, a name that begins with .wh. removes another file", name)
	}
}

func (v *validator) command(path string, c Command) {
	switch {
	case strings.TrimSpace(c.Shell) == "" && len(c.Argv) == 0, len(c.Argv) > 0 && c.Argv[0] == "":
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
			if len(loop) == 2 && v.r.Stage(name).From != name {
				return true // said of the step already
			}
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
