package recipe

import (
	"fmt"
	"net/url"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (v *validator) step(path string, st *Stage, s Step) {
	switch s := s.(type) {
	case Run:
		v.run(path, st, s)
	case Copy:
		v.copyStep(path, st, s)
	case File:
		v.imagePath(path+".file", s.Path)
		v.storedFile(path+".content", s.Content)
		v.mode(path+".mode", s.Mode)
		v.owner(path+".owner", s.Owner)
	case Env:
		if len(s.Env) == 0 {
			v.fail(path+".env", "names no variable")
		}
		v.env(path+".env", s.Env)
	case Workdir:
		if s.Workdir == "" {
			v.fail(path+".workdir", "must not be empty")
		}
		v.storable(path+".workdir", s.Workdir)
	case User:
		v.user(path+".user", s.User)
	case Check:
		v.command(path+".check", s.Command)
		v.env(path+".env", s.Env)
		v.owner(path+".user", s.User)
		v.mentions(path+".check", nil, append([]string{s.Command.Shell}, s.Command.Argv...)...)
		v.envMentions(path+".env", nil, s.Env)
	case Spack:
		v.spack(path+".spack", s.Spack)
	case Environment:
		v.environment(path, st, s)
	default:
		v.fail(path, "%T is not a step of package recipe (use the value, not a pointer)", s)
	}
}

func (v *validator) network(path, kind string) {
	if !slices.Contains([]string{"", "host", "none"}, kind) {
		v.fail(path, "must be host or none, not %q", kind)
	}
}

func (v *validator) run(path string, st *Stage, s Run) {
	v.command(path+".run", s.Command)
	v.env(path+".env", s.Env)
	v.owner(path+".user", s.User)
	v.network(path+".network", s.Network)
	v.uses(path+".secrets", s.Secrets)
	v.mentions(path+".run", s.Secrets, append([]string{s.Command.Shell}, s.Command.Argv...)...)
	v.envMentions(path+".env", s.Secrets, s.Env)
	targets := map[string]bool{}
	for i, m := range s.Mounts {
		p := fmt.Sprintf("%s.mounts[%d]", path, i)
		v.mount(p, st, m)
		if target := pathpkg.Clean(m.Target); m.Target != "" && targets[target] {
			v.fail(p+".target", "there is a mount at %s already", m.Target)
		} else {
			targets[target] = true
		}
	}
}

var size = regexp.MustCompile(`^[0-9]+[kKmMgG%]?$`)

func (v *validator) mount(path string, st *Stage, m Mount) {
	v.mountPoint(path+".target", m.Target)
	if m.Write && (m.Type == "cache" || m.Type == "tmpfs") {
		v.fail(path+".write", "does not go with a mount of type %s, which can be written to anyway", m.Type)
	}
	if m.From == "" && m.Type == "bind" {
		v.inContext(path+".source", m.Source)
	}
	if m.From != "" && m.Type == "bind" {
		v.stageReference(path+".from", st, m.From)
	}
	if m.Size != "" && m.Type == "tmpfs" && !size.MatchString(m.Size) {
		v.fail(path+".size", "%q is not a size; it looks like 64m or 2g", m.Size)
	}
	if m.Type == "cache" {
		v.owner(path+".owner", m.Owner)
		v.mode(path+".mode", m.Mode)
	}
	v.mountKeys(path, m)
}

// mountKeys reports the keys that a mount of this type does not have.
func (v *validator) mountKeys(path string, m Mount) {
	belongs, known := map[string][]string{
		"bind":  {"from", "source"},
		"cache": {"id", "owner", "mode"},
		"tmpfs": {"size"},
	}[m.Type]
	if !known {
		v.fail(path+".type", "the type must be bind, cache or tmpfs, not %q", m.Type).Suggestion = closest(m.Type, []string{"bind", "cache", "tmpfs"})
		return
	}
	for _, key := range [][2]string{{"from", m.From}, {"source", m.Source}, {"id", m.ID}, {"size", m.Size}, {"owner", m.Owner}, {"mode", m.Mode}} {
		if key[1] != "" && !slices.Contains(belongs, key[0]) {
			v.fail(path+"."+key[0], "does not go with a mount of type %s", m.Type)
		}
	}
}

// mountPoint reports where nothing can be mounted.
func (v *validator) mountPoint(path, target string) {
	v.absolute(path, target)
	if !strings.HasPrefix(target, "/") {
		return
	}
	switch clean := pathpkg.Clean(target); {
	case clean == "/":
		v.fail(path, "must not be the root, which would hide the image")
	case clean == "/proc", strings.HasPrefix(clean, "/proc/"):
		v.fail(path, "must not be in /proc, which is the kernel's")
	}
}

var checksum = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (v *validator) copyStep(path string, st *Stage, s Copy) {
	if len(s.Sources) == 0 {
		v.fail(path+".copy", "names no source")
	}
	v.imagePath(path+".to", s.To)
	v.mode(path+".mode", s.Mode)
	v.owner(path+".owner", s.Owner)
	if s.From != "" {
		v.stageReference(path+".from", st, s.From)
	}
	urls := 0
	for i, source := range s.Sources {
		p := fmt.Sprintf("%s.copy[%d]", path, i)
		switch {
		case source == "":
			v.fail(p, "a source must not be empty")
		case v.webSource(p, source):
			urls++
			v.webName(p, source, s.To)
		case s.From == "":
			v.inContext(p, source)
		}
	}
	open := slices.ContainsFunc(s.Sources, v.hasReference) // may turn out to be on the web
	switch {
	case s.Checksum != "" && !checksum.MatchString(s.Checksum) && !v.hasReference(s.Checksum):
		v.fail(path+".checksum", "must be sha256: and 64 hexadecimal digits")
	case urls == 0 && s.Checksum != "" && !open:
		v.fail(path+".checksum", "is for sources from the web")
	case urls > 0 && len(s.Sources) > 1:
		v.fail(path+".copy", "a web address must be the only source of its step")
	case urls > 0 && s.From != "":
		v.fail(path+".from", "a web address does not come from a stage")
	case urls > 0 && s.Checksum == "":
		v.fail(path+".checksum", "a source from the web needs its checksum, or the image would depend on the day; get it with 'curl -L URL | sha256sum'")
	}
}

// webSource says whether a source is an address, and checks it.
func (v *validator) webSource(path, source string) bool {
	scheme, _, ok := strings.Cut(source, "://")
	if !ok || v.hasReference(scheme) {
		return false
	}
	u, err := url.Parse(source)
	switch {
	case scheme != "http" && scheme != "https":
		v.fail(path, "%q is not fetched; an address begins with https:// or http://", source)
		return false
	case v.hasReference(source):
	case err != nil || u.Host == "":
		v.fail(path, "%q is not an address", source)
	case u.User != nil:
		v.fail(path, "must not have a user or password in the address, which would be stored in the image's history; fetch it in a run step with a secret")
	}
	return true
}

// webName reports an address that gives the file no name where the destination
// gives it none either.
func (v *validator) webName(path, source, to string) {
	u, err := url.Parse(source)
	if err != nil || v.hasReference(source) || !strings.HasSuffix(to, "/") {
		return
	}
	if strings.Trim(u.Path, "/") == "" {
		v.fail(path, "%q does not name a file; name it in the destination, such as 'to: %sNAME'", source, to)
	}
}

// inContext reports paths that lead out of the build context.
func (v *validator) inContext(path, source string) {
	if clean := pathpkg.Clean(source); clean == ".." || strings.HasPrefix(clean, "../") {
		v.fail(path, "%q is outside of the build context; copy it there, or build with the directory above as the context", source)
	}
}

var octal = regexp.MustCompile(`^0?[0-7]{3,4}$`)

func (v *validator) mode(path, mode string) {
	if mode != "" && !octal.MatchString(mode) {
		v.fail(path, "%q is not a mode; it looks like \"0755\"", mode)
	}
}

var ownerSpec = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\$?)?$`)

func (v *validator) owner(path, owner string) {
	if owner != "" && !ownerSpec.MatchString(owner) && !v.hasReference(owner) {
		v.fail(path, "%q is not an owner; it looks like pdi, pdi:pdi or 1001:1001", owner)
		return
	}
	for part := range strings.SplitSeq(owner, ":") {
		if strings.Trim(part, "0123456789") != "" || part == "" {
			continue // a name
		}
		if _, err := ParseID(part); err != nil {
			v.fail(path, "%v", err)
		}
	}
}

// MaxID is the largest user or group id: the next one, which is -1 to chown(2),
// means that the owner stays as it is.
const MaxID = 1<<32 - 2

// ParseID reads a user or group id.
func ParseID(text string) (int, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id > MaxID {
		return 0, fmt.Errorf("%q is not a user or group id; these are numbers from 0 to %d", text, uint64(MaxID))
	}
	return int(id), nil
}

func (v *validator) user(path string, u UserSpec) {
	creates := u.UID != 0 || u.GID != 0 || u.Home != "" || u.Shell != ""
	if u.Name == "" {
		v.fail(path+".name", "the user needs a name")
	}
	v.owner(path+".name", u.Name)
	if creates && (strings.Contains(u.Name, ":") || strings.ContainsAny(u.Name[:min(1, len(u.Name))], "0123456789")) {
		v.fail(path+".name", "%q cannot be the name of a new user", u.Name)
	}
	if creates && u.UID == 0 {
		v.fail(path, "a new user needs a uid other than 0, so that it is the same everywhere")
	}
	for key, id := range map[string]int{"uid": u.UID, "gid": u.GID} {
		if id < 0 || id > MaxID {
			v.fail(path+"."+key, "must be between 0 and %d", uint64(MaxID))
		}
	}
	for key, p := range map[string]string{"home": u.Home, "shell": u.Shell} {
		if p == "" {
			continue
		}
		v.imagePath(path+"."+key, p)
		if strings.ContainsAny(p, ":\n") {
			v.fail(path+"."+key, "must not contain : or line breaks")
		}
	}
}

// stageReference checks the name of a stage that st takes from.
func (v *validator) stageReference(path string, st *Stage, name string) {
	switch {
	case name == "":
		v.fail(path, "must be the name of a stage")
	case name == st.Name:
		v.fail(path, "a stage cannot take from itself")
	case v.errs.full(), v.unsureStages, v.r.Stage(name) != nil:
	case strings.ContainsAny(name, "/:") && imageName.MatchString(name):
		v.fail(path, "there is no stage %q; to take from an image, add a stage that has it as its from:", name)
	default:
		v.fail(path, "there is no stage %q", name).Suggestion = closest(name, v.stageNames())
	}
}
