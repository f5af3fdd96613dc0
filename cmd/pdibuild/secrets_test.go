package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestParseSecret(t *testing.T) {
	for _, test := range []struct {
		text string
		want secretSource
	}{
		{"id=x,env=Y", secretSource{id: "x", env: "Y"}},
		{"id=x,src=/f", secretSource{id: "x", file: "/f"}},
		{"id=x,source=f", secretSource{id: "x", file: "f"}},
		{"src=f,id=x", secretSource{id: "x", file: "f"}},
		{"id=x", secretSource{id: "x", env: "x"}},
		{"id=x,type=env,src=Y", secretSource{id: "x", env: "Y"}},
		{"type=file,id=x,src=f", secretSource{id: "x", file: "f"}},
	} {
		got, err := parseSecret(test.text)
		if err != nil {
			t.Errorf("parseSecret(%q): %v", test.text, err)
		} else if got != test.want {
			t.Errorf("parseSecret(%q) = %+v, want %+v", test.text, got, test.want)
		}
	}
}

func TestParseSecretRefuses(t *testing.T) {
	for _, test := range []struct{ text, message string }{
		{"token", "is not KEY=VALUE"},
		{"env=Y", "has no id"},
		{"id=", "is not KEY=VALUE"},
		{"id=x,env=Y,src=f", "both a variable and a file"},
		{"id=x,type=vault", `unknown type "vault"`},
		{"id=x,type=file", "names no file"},
		{"id=x,enf=Y", `unknown key "enf"`},
	} {
		_, err := parseSecret(test.text)
		wantUsage(t, err, test.message, "--secret id=ID,env=VARIABLE")
	}
	_, err := secretFlags([]string{"id=x,env=A", "id=x,env=B"})
	wantUsage(t, err, `"x" is given twice`, "once")
}

func TestSecretFlagsNameDeclaredSecrets(t *testing.T) {
	r := &recipe.Recipe{Secrets: map[string]recipe.Secret{"oci_password": {}, "oci_username": {}}}
	if err := checkSecretFlags(r, map[string]secretSource{"oci_password": {}}); err != nil {
		t.Errorf("a declared secret: %v", err)
	}
	err := checkSecretFlags(r, map[string]secretSource{"oci_pasword": {}})
	wantUsage(t, err, `no secret "oci_pasword"`, `did you mean "oci_password"?`)
	err = checkSecretFlags(r, map[string]secretSource{"zzz": {}})
	wantUsage(t, err, `no secret "zzz"`, "oci_password, oci_username")
	err = checkSecretFlags(&recipe.Recipe{}, map[string]secretSource{"x": {}})
	wantUsage(t, err, `no secret "x"`, "declares no secrets")
}

// secretsHost is a host with one file and two variables.
func secretsHost(t *testing.T) *secretReader {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("of the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TOKEN": "of the variable", "EMPTY": ""}
	return &secretReader{
		dir:    dir,
		lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
}

func TestSecretsOfRecipeAndFlags(t *testing.T) {
	host := secretsHost(t)
	file := filepath.Join(host.dir, "token")
	for name, test := range map[string]struct {
		secret recipe.Secret
		flag   *secretSource
		want   string
	}{
		"variable":                 {secret: recipe.Secret{Env: "TOKEN"}, want: "of the variable"},
		"file beside the recipe":   {secret: recipe.Secret{File: "token"}, want: "of the file\n"},
		"absolute file":            {secret: recipe.Secret{File: file}, want: "of the file\n"},
		"variable before file":     {secret: recipe.Secret{Env: "TOKEN", File: "token"}, want: "of the variable"},
		"file for lack of another": {secret: recipe.Secret{Env: "UNSET", File: "token"}, want: "of the file\n"},
		"flag wins":                {secret: recipe.Secret{Env: "TOKEN"}, flag: &secretSource{id: "x", file: file}, want: "of the file\n"},
		"flag alone":               {flag: &secretSource{id: "x", env: "TOKEN"}, want: "of the variable"},
	} {
		t.Run(name, func(t *testing.T) {
			flags := map[string]secretSource{}
			if test.flag != nil {
				flags["x"] = *test.flag
			}
			r := &recipe.Recipe{Secrets: map[string]recipe.Secret{"x": test.secret}}
			found, err := host.read(r, flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(found.values["x"]); got != test.want {
				t.Errorf("value is %q, want %q", got, test.want)
			}
		})
	}
}

// planOf is a plan of one stage in which a cached step uses the secret old, and
// two others new and maybe.
func planOf(r *recipe.Recipe) *builder.Plan {
	use := func(id string) recipe.Run {
		return recipe.Run{Command: recipe.Script("true"), Secrets: []recipe.SecretUse{{ID: id}}}
	}
	r.Stages = []recipe.Stage{{Name: "final", From: "scratch", Steps: []recipe.Step{
		recipe.Env{}, use("old"), recipe.Check{}, use("new"), use("maybe"), use("new"),
	}}}
	return &builder.Plan{Recipe: r, Stages: []builder.PlannedStage{{Name: "final", Steps: []builder.PlannedStep{
		{Verb: "from", Cached: true},
		{Verb: "env", Cached: true},
		{Verb: "run", Cached: true},
		{Verb: "run"},
		{Verb: "run"},
		{Verb: "run"},
		{Verb: "check"},
	}}}}
}

func TestMissingSecretsMatterWhereTheyAreUsed(t *testing.T) {
	host := secretsHost(t)
	r := &recipe.Recipe{Secrets: map[string]recipe.Secret{
		"old":    {Env: "UNSET"},
		"new":    {Env: "TOKEN"},
		"maybe":  {Env: "EMPTY", Optional: true},
		"unused": {Env: "UNSET", Optional: true},
	}}
	plan := planOf(r)
	found, err := host.read(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	if err := found.check(plan, func(text string) { notes = append(notes, text) }); err != nil {
		t.Errorf("a missing secret of a cached step matters: %v", err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], `"maybe"`) {
		t.Errorf("notes are %q, want one about maybe", notes)
	}
	r.Secrets["new"] = recipe.Secret{Env: "UNSET"}
	if found, err = host.read(r, nil); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, found.check(plan, func(string) {}), "variable UNSET is not set", "--secret id=new,env=VARIABLE or --secret id=new,src=FILE")
}

func TestUnreadableSecretIsNotAbsent(t *testing.T) {
	host := secretsHost(t)
	r := &recipe.Recipe{Secrets: map[string]recipe.Secret{"new": {File: ".", Optional: true}}}
	plan := planOf(r)
	found, err := host.read(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantUsage(t, found.check(plan, func(string) {}), "is a directory", "--secret id=new")
}

func TestSecretFlagThatLeadsNowhere(t *testing.T) {
	host := secretsHost(t)
	r := &recipe.Recipe{Secrets: map[string]recipe.Secret{"x": {Optional: true}}}
	_, err := host.read(r, map[string]secretSource{"x": {id: "x", env: "UNSET"}})
	wantUsage(t, err, "UNSET is not set", "export UNSET")
	_, err = host.read(r, map[string]secretSource{"x": {id: "x", file: filepath.Join(host.dir, "gone")}})
	wantUsage(t, err, "no such file", "src=")
}
