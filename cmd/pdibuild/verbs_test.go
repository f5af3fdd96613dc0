package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestBuildPrintsTheIDAlone(t *testing.T) {
	for _, mode := range []string{"auto", "plain", "json", "tty"} {
		t.Run(mode, func(t *testing.T) {
			writeRecipe(t, smallRecipe)
			e := &fakeEngine{}
			e.build = func(_ context.Context, _ *builder.Plan, opt builder.BuildOptions) (*builder.Result, error) {
				opt.Events(builder.Event{Kind: progress.StepStart, Stage: "base", Step: 1, Steps: 2, Text: "from scratch"})
				opt.Output("base", 1, []byte("a line"))
				return &builder.Result{ImageID: fakeID, Names: opt.Tags}, nil
			}
			a := newTestApp(e)
			if code := a.main([]string{"build", "--progress", mode}); code != 0 {
				t.Fatalf("exit code %d\n%s", code, &a.err)
			}
			if got := a.out.String(); got != fakeID+"\n" {
				t.Errorf("standard output is %q, want the id alone", got)
			}
			if !strings.Contains(a.err.String(), "example.org/group/app:latest") {
				t.Errorf("the name is not on standard error:\n%s", &a.err)
			}
			if e.closed != 1 {
				t.Errorf("the store was closed %d times", e.closed)
			}
		})
	}
}

func TestBuildQuiet(t *testing.T) {
	writeRecipe(t, smallRecipe)
	a := newTestApp(&fakeEngine{})
	a.env["TOKEN"] = "x"
	if code := a.main([]string{"build", "-q"}); code != 0 || a.err.Len() > 0 {
		t.Errorf("exit code %d, standard error:\n%s", code, &a.err)
	}
}

func TestBuildOptions(t *testing.T) {
	writeRecipe(t, smallRecipe)
	var r *recipe.Recipe
	var plan builder.PlanOptions
	var opt builder.BuildOptions
	e := &fakeEngine{}
	e.plan = func(rec *recipe.Recipe, _ string, o builder.PlanOptions) (*builder.Plan, error) {
		r, plan = rec, o
		return &builder.Plan{Recipe: rec}, nil
	}
	e.build = func(_ context.Context, _ *builder.Plan, o builder.BuildOptions) (*builder.Result, error) {
		opt = o
		return &builder.Result{ImageID: fakeID, Names: o.Tags}, nil
	}
	a := newTestApp(e)
	a.env = map[string]string{"GCC": "14", "T": "s3cret", "SOURCE_DATE_EPOCH": "0", "http_proxy": "http://proxy:3128"}
	code := a.main(strings.Fields("build . -t 1.0 -t other.org/x:2 --build-arg GCC --secret id=token,env=T --target base " +
		"--no-cache --pull --jobs 3 --platform linux/arm64 --isolation rootless --creds me --tls-verify=false --storage-root /r"))
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, &a.err)
	}
	if want := []string{"example.org/group/app:1.0", "other.org/x:2"}; !slices.Equal(opt.Tags, want) {
		t.Errorf("tags %q, want %q", opt.Tags, want)
	}
	if plan.Args["GCC"] != "14" || plan.Target != "base" || !plan.NoCache || plan.Pull != builder.PullAlways || plan.Platform != "linux/arm64" {
		t.Errorf("plan options %+v", plan)
	}
	if string(opt.Secrets["token"]) != "s3cret" || opt.Jobs != 3 || opt.Isolation != builder.IsolationOCI || opt.Env["http_proxy"] == "" {
		t.Errorf("build options %+v", opt)
	}
	if r.Epoch() != 0 {
		t.Errorf("SOURCE_DATE_EPOCH was not taken: %d", r.Epoch())
	}
	reg := a.opened[0].Registries
	if a.opened[0].Root != "/r" || reg.Username != "me" || reg.Password != "typed" || reg.TLSVerify == nil || *reg.TLSVerify {
		t.Errorf("store options %+v", a.opened[0])
	}
}

func TestBuildWritesFiles(t *testing.T) {
	writeRecipe(t, smallRecipe)
	a := newTestApp(&fakeEngine{})
	if code := a.main([]string{"build", "--push", "--iidfile", "iid", "--metadata-file", "meta"}); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &a.err)
	}
	if iid, err := os.ReadFile("iid"); err != nil || string(iid) != "sha256:"+fakeID {
		t.Errorf("iidfile is %q, %v", iid, err)
	}
	data, err := os.ReadFile("meta")
	if err != nil {
		t.Fatal(err)
	}
	var meta map[string]any
	if err := json.Unmarshal(data, &meta); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"image_id":                     fakeID,
		"digest":                       "sha256:aa",
		"containerimage.config.digest": "sha256:" + fakeID,
		"containerimage.digest":        "sha256:bb",
		"image.name":                   "example.org/group/app:latest",
	}
	for key, value := range want {
		if meta[key] != value {
			t.Errorf("%s is %v, want %s", key, meta[key], value)
		}
	}
}

// TestBuildFails has one case for each code that a build can end with, all the
// way through the verb.
func TestBuildFails(t *testing.T) {
	why := errors.New("exit status 2")
	tests := []struct {
		name string
		err  error
		code int
		// words of standard error
		words []string
	}{
		{"other", why, codeOther, []string{"error: exit status 2"}},
		{
			"step",
			&builder.StepError{Stage: "base", Step: 2, Text: "run make", Tail: []string{"make: *** no rule"}, LogFile: "/log/base-02", Err: why},
			codeStep,
			[]string{`stage "base", step 2 (run make): exit status 2`, "/log/base-02", "hint:"},
		},
		{"host", &builder.HostError{Op: "mount", Hint: "use vfs", Err: why}, codeHost, []string{"mount: exit status 2", "hint: use vfs"}},
		{"leak", &builder.LeakError{Stage: "base", Step: 2, SecretID: "token", Where: "/etc/x", Form: "base64"}, codeLeak, []string{"/etc/x", "/run/secrets/token"}},
		{"registry", &builder.RegistryError{Op: "pull", Image: "ghcr.io/a/b", Err: why}, codeRegistry, []string{"pull ghcr.io/a/b", "podman login ghcr.io"}},
		{"input", &builder.InputError{Subject: "copy x", Hint: "make it", Err: why}, codeRecipe, []string{"copy x", "hint: make it"}},
		{"recipe", recipe.Errors{{File: "f", Line: 3, Column: 2, Message: "bad", Source: " bad: x"}}, codeRecipe, []string{"f:3:2: bad", "^"}},
		{"canceled", context.Canceled, codeInterrupted, []string{"finished steps are kept"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeRecipe(t, smallRecipe)
			e := &fakeEngine{}
			e.build = func(context.Context, *builder.Plan, builder.BuildOptions) (*builder.Result, error) {
				return nil, tt.err
			}
			a := newTestApp(e)
			if code := a.main([]string{"build", "--quiet"}); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.words {
				if !strings.Contains(a.err.String(), w) {
					t.Errorf("no %q in:\n%s", w, &a.err)
				}
			}
			if a.out.Len() > 0 {
				t.Errorf("standard output is %q", &a.out)
			}
		})
	}
}

func TestErrorsAreJSONWithJSONProgress(t *testing.T) {
	writeRecipe(t, smallRecipe)
	e := &fakeEngine{}
	e.build = func(context.Context, *builder.Plan, builder.BuildOptions) (*builder.Result, error) {
		return nil, &builder.StepError{Stage: "base", Step: 2, Text: "run make", Tail: []string{"x"}, Err: errors.New("no")}
	}
	a := newTestApp(e)
	if code := a.main([]string{"build", "--progress=json"}); code != codeStep {
		t.Errorf("exit code %d", code)
	}
	var last map[string]any
	for _, line := range bytes.Split(bytes.TrimSpace(a.err.Bytes()), []byte("\n")) {
		last = nil
		if err := json.Unmarshal(line, &last); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
	}
	if last["event"] != "error" || last["exit_code"] != float64(codeStep) || last["stage"] != "base" || last["step"] != float64(2) {
		t.Errorf("the last line is %v", last)
	}
}

func TestInterrupt(t *testing.T) {
	writeRecipe(t, smallRecipe)
	e := &fakeEngine{}
	e.build = func(ctx context.Context, _ *builder.Plan, _ builder.BuildOptions) (*builder.Result, error) {
		// Twice, as from a terminal and from the process outside.
		for range 2 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Error("the context was not cancelled")
		}
		time.Sleep(50 * time.Millisecond) // the second signal arrives
		return nil, &builder.StepError{Err: errors.New("signal: killed")}
	}
	a := newTestApp(e)
	if code := a.main([]string{"build"}); code != codeInterrupted {
		t.Errorf("exit code %d, want %d\n%s", code, codeInterrupted, &a.err)
	}
	if !strings.Contains(a.err.String(), "stopped by Ctrl-C (SIGINT)") {
		t.Errorf("standard error:\n%s", &a.err)
	}
	if e.closed != 1 {
		t.Error("the store was not closed")
	}
}

func TestPushFailureKeepsTheImage(t *testing.T) {
	writeRecipe(t, smallRecipe)
	e := &fakeEngine{push: func(string, string) (string, error) {
		return "", &builder.RegistryError{Op: "push", Image: "example.org/group/app", Err: errors.New("unauthorized")}
	}}
	a := newTestApp(e)
	if code := a.main([]string{"build", "--push", "--iidfile", "iid"}); code != codeRegistry {
		t.Errorf("exit code %d, want %d", code, codeRegistry)
	}
	if !strings.Contains(a.err.String(), fakeID+" was built and is kept") {
		t.Errorf("standard error:\n%s", &a.err)
	}
	if a.out.Len() > 0 {
		t.Errorf("standard output is %q", &a.out)
	}
}

// TestUsage says what is answered to wrong command lines, and that none of
// them gets as far as the store.
func TestUsage(t *testing.T) {
	tests := []struct{ line, want string }{
		{"biuld", "did you mean 'pdibuild build'?"},
		{"biuld --tag x", `unknown verb "biuld"`},
		{"build --tga x", "did you mean --tag?"},
		{"build --load", "podman reads already"},
		{"build --jobs x", `--jobs: "x" is not a whole number`},
		{"build --jobs -1", "negative"},
		{"build a b", `also given "b"`},
		{"build nowhere", "nowhere: no such file"},
		{"build --pull never", "--pull=never"},
		{"build pdibuild.yaml", "--file pdibuild.yaml"},
		{"build --pull=alwys", "did you mean --pull=always?"},
		{"build --progress fancy", "--progress is one of"},
		{"build --isolation x", "auto, oci, chroot"},
		{"build --compression lz", "gzip, zstd, zstd:chunked, none"},
		{"build --platform linux/amd64,linux/arm64", "one platform"},
		{"build --platform arm", "looks like linux/amd64"},
		{"build --timestamp yesterday", "--timestamp=yesterday is not a time"},
		{"build --timestamp -5", "--timestamp=-5 is not a time"},
		{"build --build-arg GC=1", `did you mean "GCC"?`},
		{"build --build-arg token=1", "--secret id=token"},
		{"build --secret id=tokn", `did you mean "token"?`},
		{"build --secret token", "id=ID,env=VARIABLE"},
		{"build --target fnal", "did you mean --target final?"},
		{"build --tag Not/OK", "not an image name"},
		{"build -o out", "oci-archive:out"},
		{"build -o type=local,dest=x", "unknown type"},
		{"push", "needs an IMAGE"},
		{"push a b c", `also given "c"`},
		{"export a", "a DESTINATION"},
		{"export a oci-archiv:x", "did you mean oci-archive?"},
		{"export a docker://x/y", "pdibuild push"},
		{"plan --format yaml", "--format is one of table, json"},
		{"images x", "takes no argument"},
		{"rm", "at least one IMAGE"},
		{"version --format x", "text, json"},
		{"", "no verb given"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			writeRecipe(t, smallRecipe)
			a := newTestApp(&fakeEngine{})
			if code := a.main(strings.Fields(tt.line)); code != codeUsage {
				t.Errorf("exit code %d, want %d", code, codeUsage)
			}
			if !strings.Contains(a.err.String(), tt.want) {
				t.Errorf("no %q in:\n%s", tt.want, &a.err)
			}
			if !strings.Contains(a.err.String(), "pdibuild: hint: ") {
				t.Errorf("no hint in:\n%s", &a.err)
			}
			if a.entered > 0 || a.out.Len() > 0 {
				t.Errorf("the namespace was entered %d times, standard output is %q", a.entered, &a.out)
			}
		})
	}
}

func TestRemoveGoesOn(t *testing.T) {
	e := &fakeEngine{remove: func(name string) error {
		if name == "none" {
			return &builder.InputError{Subject: "image none", Hint: "list them", Err: errors.New("not there")}
		}
		return nil
	}}
	a := newTestApp(e)
	if code := a.main([]string{"rm", "none", "there"}); code != codeUsage {
		t.Errorf("exit code %d", code)
	}
	if a.out.String() != "there\n" || !strings.Contains(a.err.String(), "image none: not there") || !strings.Contains(a.err.String(), "hint: list them") {
		t.Errorf("standard output %q, standard error:\n%s", &a.out, &a.err)
	}
}

func TestImages(t *testing.T) {
	e := &fakeEngine{images: []builder.Image{{ID: fakeID, Names: []string{"b:1", "a:1"}, Size: 1234567}}}
	want := map[string]string{
		"images":               "NAME  IMAGE ID      SIZE\na:1   3e89496cc805  1.23 MB\nb:1   3e89496cc805  1.23 MB\n",
		"images -q":            fakeID + "\n",
		"images --format json": `"names": [`,
	}
	for line, text := range want {
		a := newTestApp(e)
		if code := a.main(strings.Fields(line)); code != 0 || !strings.Contains(a.out.String(), text) {
			t.Errorf("%s: exit code %d, standard output:\n%s", line, code, &a.out)
		}
	}
	a := newTestApp(&fakeEngine{})
	if a.main([]string{"images", "--format", "json"}); strings.TrimSpace(a.out.String()) != "[]" {
		t.Errorf("an empty store is %q", &a.out)
	}
}

func TestPlanTable(t *testing.T) {
	writeRecipe(t, smallRecipe)
	e := &fakeEngine{plan: func(*recipe.Recipe, string, builder.PlanOptions) (*builder.Plan, error) {
		return &builder.Plan{Stages: []builder.PlannedStage{{Name: "base", Steps: []builder.PlannedStep{
			{Verb: "from", Text: "from scratch", Key: strings.Repeat("ab", 32), Cached: true},
			{Verb: "run", Text: "run a\nb"},
		}}}}, nil
	}}
	a := newTestApp(e)
	if code := a.main([]string{"plan"}); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &a.err)
	}
	want := "STAGE  STEP  RESULT  KEY           WHAT\n" +
		"base   1/2   cached  abababababab  from scratch\n" +
		"base   2/2   to do   -             run a …\n"
	if a.out.String() != want {
		t.Errorf("got\n%swant\n%s", &a.out, want)
	}
}

func TestRecipeFromStandardInputIsReadInTheNamespace(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newTestApp(&fakeEngine{})
	a.stdin = strings.NewReader(smallRecipe)
	enter := a.enter
	a.enter = func() error {
		if n := a.stdin.(*strings.Reader).Len(); n != len(smallRecipe) {
			t.Errorf("%d bytes were read before; the program that runs again would miss them", len(smallRecipe)-n)
		}
		return enter()
	}
	if code := a.main([]string{"build", "-f", "-"}); code != 0 {
		t.Errorf("exit code %d\n%s", code, &a.err)
	}
}

func TestBuildWithoutItsSecret(t *testing.T) {
	const steps = `
  - name: user
    from: scratch
    steps:
      - run: fetch
        secrets: [token]
`
	plan := func(cached bool) *fakeEngine {
		return &fakeEngine{plan: func(r *recipe.Recipe, _ string, _ builder.PlanOptions) (*builder.Plan, error) {
			run := builder.PlannedStep{Verb: "run", Text: "run fetch", Cached: cached}
			return &builder.Plan{Recipe: r, Stages: []builder.PlannedStage{{Name: "user", Steps: []builder.PlannedStep{{Verb: "from"}, run}}}}, nil
		}}
	}
	required := strings.Replace(smallRecipe, ", optional: true", "", 1)
	tests := []struct {
		name, recipe string
		cached       bool
		code         int
		words        []string
	}{
		{"required", required, false, codeUsage, []string{`secret "token"`, "TOKEN is not set", "--secret id=token,env=VARIABLE"}},
		{"optional", smallRecipe, false, codeOK, []string{`the optional secret "token" was not given`}},
		{"required by a step whose result is known", required, true, codeOK, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeRecipe(t, tt.recipe+steps[1:])
			a := newTestApp(plan(tt.cached))
			if code := a.main([]string{"build"}); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.words {
				if !strings.Contains(a.err.String(), w) {
					t.Errorf("no %q in:\n%s", w, &a.err)
				}
			}
			if tt.words == nil && strings.Contains(a.err.String(), "secret") {
				t.Errorf("the secret is mentioned:\n%s", &a.err)
			}
		})
	}
}
