package recipe_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		value, ok := map[string]string{"A": "x", "EMPTY": "", "REF": "${A}"}[name]
		return value, ok
	}
	for _, c := range []struct{ in, want, err string }{
		{in: "", want: ""},
		{in: "plain", want: "plain"},
		{in: "a${A}b${A}", want: "axbx"},
		{in: "${A:-d}", want: "x"},
		{in: "${EMPTY}", want: ""},
		{in: "${EMPTY:-d}", want: "d"},
		{in: "${NONE:-d/e:f}", want: "d/e:f"},
		{in: "${NONE:-}", want: ""},
		{in: "$$", want: "$"},
		{in: "$${A}", want: "${A}"},
		{in: "$$$${A}", want: "$${A}"},
		{in: "$A 5$ $", want: "$A 5$ $"},
		{in: "${REF}", want: "${A}"},
		{in: "${NONE}", err: "${NONE} is not known here; ${NONE:-default} gives it a value"},
		{in: "a ${A", err: "no closing brace; write $$ for a dollar sign"},
		{in: "${}", err: "is not a reference"},
		{in: "${A-b}", err: "is not a reference"},
		{in: "${A:-${B}}", err: "a reference in its default"},
	} {
		got, err := recipe.Expand(c.in, lookup)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Expand(%q): %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("Expand(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

const substitutable = `version: 1
args: {V: "12", DIR: /opt, EMPTY: "", MONEY: 5$}
secrets: {token: {}}
stages:
  - name: a
    from: debian:${V}
    platform: linux/${ARCH:-amd64}
    env: {A: "${DIR}/a:${PATH}", M: "${MONEY}", E: "${EMPTY:-e$$}", O: "$${V}"}
    labels: {v: "${V}", cost: "5$$"}
    expose: ["80${V}"]
    workdir: ${DIR}/w
    steps:
      - run: echo ${V} $$
        env: {B: "${V}"}
        workdir: ${DIR}
        secrets: [{id: token, target: "${DIR}/token"}]
        mounts: [{type: cache, target: "${DIR}/c", id: "c${V}"}]
      - file: ${DIR}/f
        content: ${V}
      - copy: "a-${V}"
        to: ${DIR}/
        owner: u${V}
      - spack: {environment: "env/${V}/spack.yaml", repos: ["r${V}"]}
`

func TestSubstitute(t *testing.T) {
	r := mustParse(t, substitutable)
	before, err := recipe.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Substitute(map[string]string{"V": "13"})
	if err != nil {
		t.Fatal(err)
	}
	st := got.Stages[0]
	run, file := st.Steps[0].(recipe.Run), st.Steps[1].(recipe.File)
	cp, spack := st.Steps[2].(recipe.Copy), st.Steps[3].(recipe.Spack).Spack
	for _, c := range [][2]string{
		{st.From, "debian:13"},
		{st.Platform, "linux/amd64"},
		{st.Labels["v"], "13"},
		{st.Labels["cost"], "5$"},
		{st.Expose[0], "8013"},
		{st.Workdir, "/opt/w"},
		// In env, the rest is left to Expand, which makes one $ of two.
		{st.Env["A"], "/opt/a:${PATH}"},
		{st.Env["M"], "5$$"},
		{st.Env["E"], "e$$$$"},
		{st.Env["O"], "$${V}"},
		{run.Command.Shell, "echo ${V} $$"},
		{run.Env["B"], "13"},
		{run.Workdir, "/opt"},
		{run.Secrets[0].Target, "/opt/token"},
		{run.Mounts[0].Target, "/opt/c"},
		{run.Mounts[0].ID, "c13"},
		{file.Path, "/opt/f"},
		{file.Content, "${V}"},
		{cp.Sources[0], "a-13"},
		{cp.To, "/opt/"},
		{cp.Owner, "u13"},
		{spack.Environment, "env/13/spack.yaml"},
		{spack.Repos[0], "r13"},
		{got.Args["V"], "13"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
	after, err := recipe.Marshal(r)
	if err != nil || string(before) != string(after) {
		t.Errorf("Substitute changed the recipe it was given (%v):\n%s", err, after)
	}
}

func TestSubstituteRefuses(t *testing.T) {
	r := mustParse(t, substitutable)
	for _, c := range []struct {
		given map[string]string
		want  string
	}{
		{map[string]string{"DIRR": "x"}, `the recipe has no argument "DIRR"; it has DIR, EMPTY, MONEY, V (did you mean "DIR"?)`},
		{map[string]string{"token": "s3cret"}, `"token" is a secret; as an argument it would be stored in the image`},
		{map[string]string{"V": "a b"}, `stages[0].from: "debian:a b" is neither a stage nor an image name`},
		{map[string]string{"DIR": "opt"}, `stages[0].workdir: "opt/w" must be an absolute path`},
	} {
		_, err := r.Substitute(c.given)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %v: %v, want %q", c.given, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error tells the value of a secret: %v", err)
		}
	}
	none := mustParse(t, "version: 1\nstages:\n- {name: a, from: scratch}\n")
	if _, err := none.Substitute(map[string]string{"A": ""}); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Errorf("a recipe without arguments: %v", err)
	}
}

func TestFullName(t *testing.T) {
	for _, c := range []struct{ name, tag, want, err string }{
		{"ghcr.io/u/app", "HPCAsia2026", "ghcr.io/u/app:HPCAsia2026", ""},
		{"app", "v1", "localhost/app:v1", ""},
		{"u/app", "v1", "localhost/u/app:v1", ""},
		{"localhost:5000/app", "v1", "localhost:5000/app:v1", ""},
		{"", "app", "localhost/app:latest", ""},
		{"ghcr.io/u/app", "quay.io/x/y:Z", "quay.io/x/y:Z", ""},
		{"ghcr.io/u/app", "x:1", "localhost/x:1", ""},
		{"ghcr.io/u/app", "r:5000/x", "r:5000/x:latest", ""},
		{"", "a/b", "localhost/a/b:latest", ""},
		{"", "HPCAsia2026", "", "the recipe has no name that the tag \"HPCAsia2026\" could go with"},
		{"app", "", "", "is not a tag"},
		{"app", "a b", "", "is not a tag"},
		{"app", strings.Repeat("a", 129), "", "is not a tag"},
		{"", "HPC/app:1", "", "is not an image name"},
		{"", "ghcr.io/App:1", "", "is not an image name"},
		{"", "app:", "", "is not an image name"},
		{"", "app@sha256:" + strings.Repeat("a", 64), "", "is not an image name"},
	} {
		got, err := recipe.FullName(c.name, c.tag)
		if got != c.want || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("FullName(%q, %q) = %q, %v; want %q %s", c.name, c.tag, got, err, c.want, c.err)
		}
	}
}

func TestOrderAndNeeds(t *testing.T) {
	r := mustParse(t, `version: 1
stages:
- name: d
  from: b
  steps:
  - {copy: x, from: c, to: /x}
  - {run: make, mounts: [{type: bind, target: /b, from: b}, {type: bind, target: /e, from: e}]}
- {name: b, from: a}
- {name: c, from: a}
- {name: a, from: scratch}
- {name: e, from: docker.io/library/debian}
- {name: unused, from: a}
`)
	if got, want := r.Stage("d").Needs(r), []string{"b", "c", "e"}; !reflect.DeepEqual(got, want) {
		t.Errorf("d needs %v, want %v", got, want)
	}
	got, err := r.Order("d")
	if want := []string{"a", "b", "c", "e", "d"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("order %v, %v; want %v", got, err, want)
	}
	if got, err := r.Order("none"); err == nil || got != nil {
		t.Errorf("the order of no stage: %v, %v", got, err)
	}
	r.Stages[3].From = "d"
	if got, err := r.Order("d"); err == nil || got != nil || !strings.Contains(err.Error(), "d → b → a → d") {
		t.Errorf("the order of a circle: %v, %v", got, err)
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		step recipe.Step
		want string
	}{
		{recipe.Run{Command: recipe.Script("set -e\n  make \t install\r\n")}, "run set -e make install"},
		{recipe.Run{Command: recipe.Exec("make", "a\nb")}, "run make a b"},
		{recipe.Run{Command: recipe.Script(strings.Repeat("é", 100))}, "run " + strings.Repeat("é", 67) + "…"},
		{recipe.Copy{Sources: []string{"a", "b"}, To: "/c/"}, "copy a b → /c/"},
		{recipe.Copy{Sources: []string{"/a"}, To: "/c", From: "s"}, "copy s:/a → /c"},
		{recipe.File{Path: "/a", Content: "top\nsecret"}, "file /a"},
		{recipe.Env{Env: map[string]string{"B": "x", "A": "y"}}, "env A B"},
		{recipe.Workdir{Workdir: "/w"}, "workdir /w"},
		{recipe.User{User: recipe.UserSpec{Name: "pdi", UID: 7}}, "user pdi (uid 7)"},
		{recipe.Check{Command: recipe.Exec("true")}, "check true"},
		{recipe.Spack{Spack: recipe.SpackInstall{Environment: "spack.yaml"}}, "spack spack.yaml"},
		{recipe.Environment{From: "builder"}, "environment builder"},
	} {
		if got := recipe.Summary(c.step); got != c.want {
			t.Errorf("Summary(%#v) = %q, want %q", c.step, got, c.want)
		}
	}
}

func TestImageNames(t *testing.T) {
	for _, c := range []struct {
		name string
		tags []string
		want []string
	}{
		{"demo", nil, []string{"localhost/demo:latest"}},
		{"demo", []string{"1.0", "localhost/demo:1.0", "example.org/x"}, []string{"localhost/demo:1.0", "example.org/x:latest"}},
		{"", []string{"demo"}, []string{"localhost/demo:latest"}},
		{"", nil, nil},
	} {
		got, err := (&recipe.Recipe{Name: c.name}).ImageNames(c.tags)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("name %q, tags %q: %q, %v; want %q", c.name, c.tags, got, err, c.want)
		}
	}
}

func TestEmptyCommandsAreNoMissingOnes(t *testing.T) {
	for _, field := range []string{"cmd", "entrypoint"} {
		for _, value := range []string{`""`, "[]"} {
			_, err := recipe.Parse("r.yaml", []byte("version: 1\nstages: [{name: a, from: scratch, "+field+": "+value+"}]\n"))
			if err == nil || !strings.Contains(err.Error(), "the command is empty") {
				t.Errorf("%s: %s: %v", field, value, err)
			}
		}
	}
}
