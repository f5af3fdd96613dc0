package spack_test

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// base is what testdata/make.sh runs Spack with.
func base() map[string]string {
	return map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "MANPATH": ""}
}

func activation(t *testing.T, file string) spack.Activation {
	t.Helper()
	a, err := spack.ParseActivation("activate.sh", readFile(t, "testdata", file), base())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return a
}

func TestActivation(t *testing.T) {
	const view = "/tmp/pdibuild-testdata/env/.spack-env/view"
	for _, version := range versions() {
		a := activation(t, version+"/activate.sh")
		for _, want := range []spack.Change{
			{spack.ChangeSet, "SPACK_ENV", "/tmp/pdibuild-testdata/env"},
			{spack.ChangePrepend, "PATH", view + "/bin"},
			{spack.ChangeSet, "HELLO_GREETING", `it's a "day" & more`},
			{spack.ChangeSet, "HELLO_PATH", view + "/lib"},
		} {
			if version == "spack-0.19" && strings.HasPrefix(want.Name, "HELLO") {
				continue // it says that of the roots alone
			}
			found := false
			for _, c := range a {
				found = found || c == want
			}
			if !found {
				t.Errorf("%s: %+v is not among %+v", version, want, a)
			}
		}
	}
	for _, version := range []string{"spack-0.24", "spack-1.3"} {
		again, once := activation(t, version+"/activate-again.sh"), activation(t, version+"/activate.sh")
		if !reflect.DeepEqual(again, once) {
			t.Errorf("%s: when an environment is active already: %+v", version, again)
		}
		loaded := activation(t, version+"/load.sh")
		if last := loaded[len(loaded)-1]; last.Name != "SPACK_LOADED_HASHES" || len(last.Value) != 32 {
			t.Errorf("%s: %+v", version, loaded)
		}
	}
}

// A shell that reads the script has the same variables.
func TestActivationIsTheShells(t *testing.T) {
	for _, file := range []string{"spack-0.24/activate.sh", "spack-1.3/activate.sh", "spack-1.3/activate-again.sh", "spack-1.3/load.sh"} {
		env := base()
		activation(t, file).Apply(env)
		names := []string{"PATH", "MANPATH", "HELLO_GREETING", "HELLO_PATH", "CMAKE_PREFIX_PATH"}
		script := `. "$1"; for n in ` + strings.Join(names, " ") + `; do eval "printf '%s\n' \"\$$n\""; done`
		cmd := exec.Command("/bin/sh", "-c", script, "sh", "testdata/"+file)
		cmd.Env = []string{"PATH=" + base()["PATH"], "MANPATH="}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for i, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
			if env[names[i]] != line {
				t.Errorf("%s: the shell's %s is %q, not %q", file, names[i], line, env[names[i]])
			}
		}
	}
}

func TestActivationStatements(t *testing.T) {
	set := func(value string) spack.Activation { return spack.Activation{{spack.ChangeSet, "A", value}} }
	for script, want := range map[string]spack.Activation{
		"":                                 nil,
		"export A=b":                       set("b"),
		"export A=;\n":                     set(""),
		"export A='b c'\"d\"\\ e;\n":       set("b cd e"),
		"export A=\"a\\\"b\\c\";":          set(`a"b\c`),
		"export A='two\nlines';\n":         set("two\nlines"),
		"export A=a\\\nb\r\n":              set("ab"),
		"export A='$(x)`y`';":              set("$(x)`y`"),
		"unset A; export A;":               {{spack.ChangeUnset, "A", ""}},
		"alias x='y z' && x;\nexport A=b;": set("b"),
		"if [ 1 ]; then\n  if [ 2 ];\n  then\n  export B=c;\n  fi;\nfi;\nexport A=b;\n": set("b"),
		"export A=/front:x:/old;": {{spack.ChangeSet, "A", "/front:x:/old"}},
		"export P=/front:/old;":   {{spack.ChangePrepend, "P", "/front"}},
		"export P=/old:/back;":    {{spack.ChangeAppend, "P", "/back"}},
		"export P=/front:/old:;":  {{spack.ChangePrepend, "P", "/front"}, {spack.ChangeAppend, "P", ""}},
		"export P=/old;":          {{spack.ChangeSet, "P", "/old"}},
		"export P=:/old;":         {{spack.ChangeSet, "P", ":/old"}},
	} {
		got, err := spack.ParseActivation("a", []byte(script), map[string]string{"P": "/old"})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", script, got, err, want)
		}
	}
}

func TestActivationErrors(t *testing.T) {
	for script, want := range map[string]string{
		"export A=$B":                `a.sh:1:10: '$' would have to be evaluated by a shell`,
		"x\n":                        `a.sh:1:1: "x" is not a statement that Spack is known to use`,
		"\n  setenv A b;":            `a.sh:2:3: "setenv" is not a statement that Spack is known to use`,
		"export A=\"$(b)\"":          `a.sh:1:11: '$' would have to be evaluated by a shell`,
		"export A=b&":                `a.sh:1:11: '&' would have to be evaluated by a shell`,
		"export A=b c":               `a.sh:1:11: the value ends at this space; a value with spaces has to be quoted`,
		"export A='b":                `a.sh:1:10: a quote is opened here and not closed`,
		"export A=\\":                `a.sh:1:10: there is nothing behind the backslash`,
		"export 1=b":                 `a.sh:1:8: the name of a variable was expected`,
		"unset":                      `a.sh:1:6: the name of a variable was expected`,
		"if x; then\n":               `a.sh:1:1: this if has no fi`,
		"export A=\x00":              `a.sh:1:10: '\x00' would have to be evaluated by a shell`,
		strings.Repeat("\n", 10<<20): `a.sh: is larger than 1048576 bytes`,
	} {
		_, err := spack.ParseActivation("a.sh", []byte(script), nil)
		if err == nil || err.Error() != want {
			t.Errorf("%.40q: got %v, want %s", script, err, want)
		}
	}
}

func TestApply(t *testing.T) {
	env := map[string]string{"A": "a", "B": "b", "C": "c", "D": "d"}
	spack.Activation{
		{spack.ChangePrepend, "A", "x"},
		{spack.ChangeAppend, "B", "x"},
		{spack.ChangeUnset, "C", ""},
		{spack.ChangeSet, "D", "x"},
		{spack.ChangePrepend, "E", "x"},
		{spack.ChangeAppend, "F", "x"},
	}.Apply(env)
	want := map[string]string{"A": "x:a", "B": "b:x", "D": "x", "E": "x", "F": "x"}
	if !reflect.DeepEqual(env, want) {
		t.Errorf("got %v", env)
	}
}

func TestSampleActivation(t *testing.T) {
	a, err := spack.ParseActivation("activate.sh", readFile(t, samples(t), "pdi", "activate.sh"), base())
	if err != nil || len(a) != 13 {
		t.Errorf("%d changes, %v", len(a), err)
	}
}

// What the caller of a shell has set stays, and what an earlier environment has set
// does not.
func TestDefaultScript(t *testing.T) {
	t.Parallel()
	a := spack.Activation{
		{spack.ChangePrepend, "P", "/view"},
		{spack.ChangeSet, "SET", "it's"},
		{spack.ChangeSet, "EMPTY", ""},
		{spack.ChangeUnset, "GONE", ""},
	}
	script := a.DefaultScript(func(name string) (string, bool) { return "first", name == "SET" })
	for given, want := range map[string]string{
		"":                       "/view|it's|set|",
		"SET=mine P=/a:/view:/b": "/a:/view:/b|mine|set|",
		"SET=first P=/a":         "/view:/a|it's|set|",
		"SET= GONE=kept":         "/view||set|kept",
	} {
		cmd := exec.Command("/bin/sh", "-euc", script+script+`printf '%s|%s|%s|%s' "$P" "$SET" "${EMPTY+set}" "${GONE-}"`)
		cmd.Env = strings.Fields(given)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("with %q: %q, %v, want %q", given, out, err, want)
		}
	}
}
