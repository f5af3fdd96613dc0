package recipe

import (
	"fmt"
	"reflect"
)

// A place is where a text stands that may have references to arguments.
type place int

const (
	inText   place = iota // replaced whole: paths, names, labels, …
	inEnv                 // a variable of the image
	inRunEnv              // a variable of one command
)

// A walker visits every text of a recipe in which arguments are replaced, and
// puts what visit returns in its place. It is the one list of these texts.
type walker struct {
	visit func(path, text string, kind place) string
}

func (w walker) text(path string, texts ...*string) {
	for _, t := range texts {
		if *t != "" {
			*t = w.visit(path, *t, inText)
		}
	}
}

func (w walker) list(path string, list []string) {
	for i := range list {
		w.text(fmt.Sprintf("%s[%d]", path, i), &list[i])
	}
}

func (w walker) values(path string, m map[string]string, kind place) {
	for k := range m {
		m[k] = w.visit(join(path, k), m[k], kind)
	}
}

func (w walker) recipe(r *Recipe) {
	w.text("name", &r.Name)
	for i := range r.Stages {
		w.stage(fmt.Sprintf("stages[%d]", i), &r.Stages[i])
	}
}

func (w walker) stage(path string, st *Stage) {
	w.text(path+".from", &st.From)
	w.text(path+".platform", &st.Platform)
	w.text(path+".workdir", &st.Workdir)
	if b := st.Bootstrap; b != nil {
		w.text(path+".bootstrap.mirror", &b.Mirror)
		w.text(path+".bootstrap.variant", &b.Variant)
		w.text(path+".bootstrap.keyring", &b.Keyring)
		w.list(path+".bootstrap.packages", b.Packages)
		w.list(path+".bootstrap.components", b.Components)
	}
	if c := st.Compiler; c != nil {
		w.text(path+".compiler.cc", &c.CC)
		w.text(path+".compiler.cxx", &c.CXX)
		w.text(path+".compiler.fc", &c.FC)
	}
	w.values(path+".env", st.Env, inEnv)
	w.values(path+".labels", st.Labels, inText)
	w.values(path+".annotations", st.Annotations, inText)
	w.list(path+".expose", st.Expose)
	w.list(path+".volumes", st.Volumes)
	for i := range st.Steps {
		st.Steps[i] = w.step(fmt.Sprintf("%s.steps[%d]", path, i), st.Steps[i])
	}
}

func (w walker) step(path string, step Step) Step {
	switch s := step.(type) {
	case Run:
		w.command(path, s.Env, &s.User, &s.Workdir)
		for i := range s.Secrets {
			w.text(fmt.Sprintf("%s.secrets[%d].target", path, i), &s.Secrets[i].Target)
		}
		for i := range s.Mounts {
			p, m := fmt.Sprintf("%s.mounts[%d]", path, i), &s.Mounts[i]
			w.text(p+".source", &m.Source)
			w.text(p+".target", &m.Target)
			w.text(p+".id", &m.ID)
			w.text(p+".owner", &m.Owner)
		}
		return s
	case Check:
		w.command(path, s.Env, &s.User, &s.Workdir)
		return s
	case Copy:
		w.list(path+".copy", s.Sources)
		w.text(path+".to", &s.To)
		w.text(path+".owner", &s.Owner)
		w.text(path+".checksum", &s.Checksum)
		return s
	case File:
		w.text(path+".file", &s.Path)
		w.text(path+".owner", &s.Owner)
		return s
	case Env:
		w.values(path+".env", s.Env, inEnv)
		return s
	case Workdir:
		w.text(path+".workdir", &s.Workdir)
		return s
	case User:
		w.text(path+".user.name", &s.User.Name)
		w.text(path+".user.home", &s.User.Home)
		w.text(path+".user.shell", &s.User.Shell)
		return s
	case Spack:
		w.spack(path+".spack", &s.Spack)
		return s
	}
	return step
}

func (w walker) command(path string, env map[string]string, user, workdir *string) {
	w.values(path+".env", env, inRunEnv)
	w.text(path+".user", user)
	w.text(path+".workdir", workdir)
}

func (w walker) spack(path string, s *SpackInstall) {
	w.text(path+".environment", &s.Environment)
	w.list(path+".repos", s.Repos)
	w.list(path+".scopes", s.Scopes)
	if src := s.Spack; src != nil {
		w.text(path+".spack.version", &src.Version)
		w.text(path+".spack.path", &src.Path)
		w.text(path+".spack.git", &src.Git)
	}
}

// clone is a deep copy.
func clone(r *Recipe) *Recipe {
	c, ok := cloneValue(reflect.ValueOf(r)).Interface().(*Recipe)
	if !ok {
		panic("recipe: a copy has another type") // cannot happen
	}
	return c
}

func cloneValue(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(cloneValue(v.Elem()))
		}
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(cloneValue(v.Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if out.Field(i).CanSet() {
				out.Field(i).Set(cloneValue(v.Field(i)))
			}
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(cloneValue(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(it.Key(), cloneValue(it.Value()))
			}
		}
	default:
		out.Set(v)
	}
	return out
}
