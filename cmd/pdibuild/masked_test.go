package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// TestNothingSaysASecret: whatever the value of a secret is in, neither standard
// error nor a file for people has it, in any style of progress.
func TestNothingSaysASecret(t *testing.T) {
	const value = "hunter22-hunter22"
	cause := errors.New("because of " + value)
	errorsWithIt := map[string]error{
		"nothing":   nil,
		"other":     fmt.Errorf("layer entry %q: %w", value, cause),
		"step":      &builder.StepError{Stage: "base", Step: 2, Text: "run login " + value, Tail: []string{value}, LogFile: "/" + value, Hint: value, NotKept: value, Err: cause},
		"shortened": &builder.StepError{Stage: "base", Step: 2, Text: "run login hunter22-h…", Err: errors.New("exit status 1"), Kept: true},
		"leak":      &builder.LeakError{Stage: value, Step: 2, Text: value, SecretID: "token", Where: "file /" + value, Form: "raw", LogFile: value, NotKept: value},
		"host":      &builder.HostError{Op: "mount /" + value, Hint: value, Err: cause},
		"registry":  &builder.RegistryError{Op: "push", Image: "r.example/" + value, Hint: value, Err: cause},
		"input":     &builder.InputError{Subject: "copy " + value, Hint: value, Stage: value, Err: cause},
		"recipe":    recipe.Errors{{File: value, Line: 1, Column: 1, Message: value, Source: value}},
		"command":   &builder.CommandError{ExitCode: 127, Err: cause},
		"usage":     usagef(value, "--flag %s", value),
	}
	for _, mode := range []string{"plain", "tty", "json"} {
		for name, err := range errorsWithIt {
			t.Run(mode+" "+name, func(t *testing.T) {
				writeRecipe(t, smallRecipe)
				e := &fakeEngine{}
				e.build = func(_ context.Context, _ *builder.Plan, opt builder.BuildOptions) (*builder.Result, error) {
					for _, kind := range []progress.Kind{progress.StepStart, progress.StepEnd, progress.StepCached, progress.Warning, progress.Info, progress.Transfer} {
						opt.Events(builder.Event{Kind: kind, Stage: "base", Step: 2, Steps: 2, Text: "run " + value, Done: 1, Total: 2})
					}
					opt.Output("base", 2, []byte("output "+value))
					return &builder.Result{ImageID: fakeID, Names: opt.Tags, LogDir: "/logs/" + value, Executed: 1}, err
				}
				a := newTestApp(e)
				a.env["TOKEN"] = value
				args := []string{"build", "--progress", mode, "--verbose", "--tag", value, "--build-arg", "GCC=" + value, "--metadata-file", "meta"}
				if code := a.main(args); (code == codeOK) != (err == nil) {
					t.Errorf("exit code %d", code)
				}
				said := a.err.String()
				if data, err := os.ReadFile("meta"); err == nil {
					said += string(data)
				}
				if strings.Contains(said, "hunter22") || !strings.Contains(said, "***") {
					t.Errorf("it says:\n%s", said)
				}
				if mode == "json" {
					checkJSONLines(t, a.err.String())
				}
			})
		}
	}
}

func checkJSONLines(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(text)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// The stars in the name of the image are explained.
func TestSecretInImageName(t *testing.T) {
	writeRecipe(t, smallRecipe)
	a := newTestApp(&fakeEngine{})
	a.env["TOKEN"] = "hunter22"
	if code := a.main([]string{"build", "--tag", "ghcr.io/hunter22/app:1"}); code != codeOK {
		t.Fatalf("exit code %d:\n%s", code, &a.err)
	}
	for _, want := range []string{"the value of secret token is in a name of the image", "public: true", "name   ghcr.io/***/app:1"} {
		if !strings.Contains(a.err.String(), want) {
			t.Errorf("no %q in:\n%s", want, &a.err)
		}
	}
}
