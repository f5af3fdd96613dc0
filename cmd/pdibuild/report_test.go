package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestExitCodeOfErrors(t *testing.T) {
	cause := errors.New("cause")
	for name, test := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"nothing":     {nil, codeOK, ""},
		"other":       {cause, codeOther, ""},
		"usage":       {usagef("do it so", "wrong flag"), codeUsage, "do it so"},
		"recipe":      {recipe.Errors{{File: "r.yaml", Line: 1, Column: 1, Message: "wrong"}}, codeRecipe, ""},
		"recipe, one": {&recipe.Error{File: "r.yaml", Line: 1, Column: 1, Message: "wrong"}, codeRecipe, ""},
		"input":       {&builder.InputError{Subject: "copy a", Err: os.ErrNotExist, Hint: "look"}, codeRecipe, "look"},
		"step":        {&builder.StepError{Stage: "s", Step: 2, Err: cause, Hint: "more memory"}, codeStep, "more memory"},
		"host":        {&builder.HostError{Op: "mount", Err: syscall.EPERM, Hint: "ask"}, codeHost, "ask"},
		"leak":        {&builder.LeakError{Stage: "s", Step: 2, SecretID: "tok", Where: "/f", Form: "raw"}, codeLeak, "/run/secrets/tok"},
		"registry":    {&builder.RegistryError{Op: "pull", Image: "r.example/x", Err: cause, Hint: "log in"}, codeRegistry, "log in"},
		"signal":      {&interruptError{os.Interrupt}, codeInterrupted, "finished steps are kept"},
		"canceled":    {fmt.Errorf("build: %w", context.Canceled), codeInterrupted, "finished steps are kept"},
		// What stopped the work counts, not what broke because of that.
		"step stopped by a signal":     {&builder.StepError{Err: &interruptError{os.Interrupt}}, codeInterrupted, ""},
		"host's limit within a step":   {&builder.StepError{Err: &builder.HostError{Op: "o", Err: cause}}, codeStep, ""},
		"wrapped step":                 {fmt.Errorf("build: %w", &builder.StepError{Err: cause}), codeStep, "run the command again"},
		"wrong argument of other verb": {asUsage(&builder.InputError{Subject: "image x", Err: cause, Hint: "list them"}), codeUsage, "list them"},
		"first of several":             {failures{&builder.RegistryError{Op: "push", Image: "x", Err: cause}, cause}, codeRegistry, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			a := &app{stderr: &stderr}
			if code := a.report(test.err); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			text := stderr.String()
			if test.err == nil {
				if text != "" {
					t.Errorf("success is reported as %q", text)
				}
				return
			}
			if !strings.HasPrefix(text, "pdibuild: error: ") {
				t.Errorf("the report does not begin with the error: %q", text)
			}
			if !strings.Contains(text, test.hint) {
				t.Errorf("the report lacks the hint %q: %q", test.hint, text)
			}
		})
	}
}

func TestReportOfRecipeErrors(t *testing.T) {
	err := recipe.Errors{
		{File: "pdibuild.yaml", Line: 3, Column: 5, Message: `unknown key "nmae"`, Suggestion: "name", Source: "  - nmae: x"},
		{File: "pdibuild.yaml", Line: 9, Column: 1, Message: "stages are missing"},
	}
	const want = `pdibuild: error: pdibuild.yaml:3:5: unknown key "nmae" (did you mean "name"?)
    3 |   - nmae: x
      |     ^
pdibuild: error: pdibuild.yaml:9:1: stages are missing
`
	var stderr bytes.Buffer
	(&app{stderr: &stderr}).report(fmt.Errorf("plan: %w", err))
	if got := stderr.String(); got != want {
		t.Errorf("report is\n%s\nwant\n%s", got, want)
	}
}

func TestJSONReport(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{stderr: &stderr, jsonErrors: true}
	code := a.report(&builder.StepError{
		Stage: "final", Step: 2, Text: "run make", ExitCode: 2, Tail: []string{"oh <no>"}, LogFile: "/l", Err: errors.New("exit status 2"),
	})
	if code != codeStep {
		t.Errorf("exit code %d, want %d", code, codeStep)
	}
	for _, want := range []string{`"event":"error"`, `"exit_code":4`, `"stage":"final"`, `"step":2`, `"tail":["oh <no>"]`, `"log_file":"/l"`} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%s lacks %s", stderr.String(), want)
		}
	}
	if n := strings.Count(stderr.String(), "\n"); n != 1 {
		t.Errorf("an error takes %d lines, not one", n)
	}
}

// The hint to fix the step is for commands of the recipe that have failed: where
// it did not come to that, something else is wrong.
func TestFixTheStepOnlyWhereACommandFailed(t *testing.T) {
	for code, want := range map[int]bool{1: true, 127: true, -1: false} {
		var stderr bytes.Buffer
		(&app{stderr: &stderr}).report(&builder.StepError{Stage: "s", Step: 2, ExitCode: code, Err: errors.New("cause")})
		if got := strings.Contains(stderr.String(), "fix the step and run the command again: the steps before it are kept"); got != want {
			t.Errorf("exit code %d: %s", code, &stderr)
		}
	}
}
