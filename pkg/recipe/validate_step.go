package recipe

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func (v *validator) step(path string, st *Stage, s Step) {
	switch s := s.(type) {
	case Run:
		v.run(path, st, s)
	case Copy:
		v.copyStep(path, st, s)
	case File:
		v.absolute(path+".file", s.Path)
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
	case User:
		v.user(path+".user", s.User)
	case Check:
		v.command(path+".check", s.Command)
		v.env(path+".env", s.Env)
		v.owner(path+".user", s.User)
		v.mentions(path+".check", s.Command, nil)
	case Spack:
		v.spack(path+".spack", s.Spack)
	case Environment:
		v.stageReference(path+".environment", st, s.From)
	default:
		v.fail(path, "%T is not a step of package recipe (use the value, not a pointer)", s)
	}
}

func (v *validator) run(path string, st *Stage, s Run) {
	v.command(path+".run", s.Command)
	v.env(path+".env", s.Env)
	v.owner(path+".user", s.User)
	if !slices.Contains([]string{"", "host", "none"}, s.Network) {
		v.fail(path+".network", "must be host or none, not %q", s.Network)
	}
	targets := map[string]bool{}
	for i, use := range s.Secrets {
		p := fmt.Sprintf("%s.secrets[%d]", path, i)
		v.secretReference(p, use.ID)
		if use.Target != "" {
			v.absolute(p+".target", use.Target)
		}
		if use.Env != "" && !identifier.MatchString(use.Env) {
			v.fail(p+".env", "%q cannot be the name of an environment variable", use.Env)
		}
		if targets[use.ID+use.Target] {
			v.fail(p, "secret %q is there already", use.ID)
		}
		targets[use.ID+use.Target] = true
	}
	v.mentions(path+".run", s.Command, s.Secrets)
	for i, m := range s.Mounts {
		v.mount(fmt.Sprintf("%s.mounts[%d]", path, i), st, m)
	}
}

var size = regexp.MustCompile(`^[0-9]+[kKmMgG%]?$`)

func (v *validator) mount(path string, st *Stage, m Mount) {
	v.absolute(path+".target", m.Target)
	wrong := func(key, value string) {
		if value != "" {
			v.fail(path+"."+key, "does not go with a mount of type %s", m.Type)
		}
	}
	switch m.Type {
	case "bind":
		wrong("id", m.ID)
		wrong("size", m.Size)
		if m.From != "" {
			v.stageReference(path+".from", st, m.From)
		}
	case "cache":
		wrong("from", m.From)
		wrong("source", m.Source)
		wrong("size", m.Size)
	case "tmpfs":
		wrong("from", m.From)
		wrong("source", m.Source)
		wrong("id", m.ID)
		if m.Size != "" && !size.MatchString(m.Size) {
			v.fail(path+".size", "%q is not a size; it looks like 64m or 2g", m.Size)
		}
	default:
		v.fail(path+".type", "the type must be bind, cache or tmpfs, not %q", m.Type).Suggestion = closest(m.Type, []string{"bind", "cache", "tmpfs"})
	}
}

var checksum = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (v *validator) copyStep(path string, st *Stage, s Copy) {
	if len(s.Sources) == 0 {
		v.fail(path+".copy", "names no source")
	}
	v.absolute(path+".to", s.To)
	v.mode(path+".mode", s.Mode)
	v.owner(path+".owner", s.Owner)
	if s.From != "" {
		v.stageReference(path+".from", st, s.From)
	}
	urls := 0
	for i, source := range s.Sources {
		p := fmt.Sprintf("%s.copy[%d]", path, i)
		if source == "" {
			v.fail(p, "a source must not be empty")
		}
		if strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://") {
			urls++
		}
	}
	switch {
	case s.Checksum != "" && !checksum.MatchString(s.Checksum) && !v.hasReference(s.Checksum):
		v.fail(path+".checksum", "must be sha256: and 64 hexadecimal digits")
	case urls == 0 && s.Checksum != "":
		v.fail(path+".checksum", "is for sources from the web")
	case urls > 0 && len(s.Sources) > 1:
		v.fail(path+".copy", "a web address must be the only source of its step")
	case urls > 0 && s.From != "":
		v.fail(path+".from", "a web address does not come from a stage")
	case urls > 0 && s.Checksum == "":
		v.fail(path, "a source from the web needs its checksum, or the image would depend on the day; get it with 'curl -L URL | sha256sum'")
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
	}
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
		if id < 0 || id > 4294967294 {
			v.fail(path+"."+key, "must be between 0 and 4294967294")
		}
	}
	for key, p := range map[string]string{"home": u.Home, "shell": u.Shell} {
		if p == "" {
			continue
		}
		v.absolute(path+"."+key, p)
		if strings.ContainsAny(p, ":\n") {
			v.fail(path+"."+key, "must not contain : or line breaks")
		}
	}
}

func (v *validator) stageReference(path string, st *Stage, name string) {
	switch {
	case name == st.Name:
		v.fail(path, "a stage cannot take from itself")
	case v.r.Stage(name) == nil:
		v.fail(path, "there is no stage %q", name).Suggestion = closest(name, v.stageNames())
	}
}

func (v *validator) secretReference(path, id string) {
	if _, ok := v.r.Secrets[id]; ok {
		return
	}
	ids := slices.Sorted(maps.Keys(v.r.Secrets))
	e := v.fail(path, "there is no secret %q; declare it under secrets:", id)
	e.Suggestion = closest(id, ids)
}
