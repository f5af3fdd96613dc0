package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/termtext"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/inspect"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A failure is an error as a human or a program gets to see it.
type failure struct {
	Event    string    `json:"event"` // "error"
	Time     time.Time `json:"time"`
	Message  string    `json:"error"`
	Hint     string    `json:"hint,omitempty"`
	ExitCode int       `json:"exit_code"`
	Stage    string    `json:"stage,omitempty"`
	Step     int       `json:"step,omitempty"`
	// Tail holds the last lines of a failed step's output, LogFile all.
	Tail    []string `json:"tail,omitempty"`
	LogFile string   `json:"log_file,omitempty"`
	// LookInside is the command that shows the container of a failed step.
	LookInside string `json:"look_inside,omitempty"`
	// NotKept is why there is no such container.
	NotKept string `json:"not_kept,omitempty"`
	// Resume is the command that goes on where this one has stopped.
	Resume string `json:"resume,omitempty"`
	// File, Line, Column and snippet belong to an error in a recipe.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	snippet string
	kept    bool
	// resumes says that the same command goes on where this one has stopped.
	resumes bool
}

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return codeOK
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status) // the command has said what there was to say
	}
	failures := explainAll(err)
	for i := range failures {
		f := &failures[i]
		f.Event, f.Time = "error", time.Now().UTC()
		if f.kept {
			f.LookInside = a.lookInside
		}
		if f.resumes {
			f.Resume = a.resume
		}
		f.masked(a.mask)
		if a.jsonErrors {
			a.reportJSON(f)
		} else {
			a.reportText(f)
		}
	}
	return failures[0].ExitCode
}

// masked masks all that is text.
func (f *failure) masked(mask func(string) string) {
	for _, text := range []*string{
		&f.Message, &f.Hint, &f.Stage, &f.LogFile, &f.LookInside, &f.NotKept, &f.Resume, &f.File, &f.snippet,
	} {
		*text = mask(*text)
	}
	f.Tail = maskEach(f.Tail, mask)
}

func (a *app) reportJSON(f *failure) {
	enc := json.NewEncoder(a.stderr)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		a.note("error: %s", f.Message)
	}
}

// reportText shows no control characters: names in recipes and images may have
// any.
func (a *app) reportText(f *failure) {
	a.note("error: %s", termtext.Lines(f.Message))
	if f.snippet != "" {
		fmt.Fprintln(a.stderr, termtext.Lines(f.snippet))
	}
	if len(f.Tail) > 0 && !a.outputShown {
		a.note("the last lines of its output:")
		for _, line := range f.Tail {
			fmt.Fprintf(a.stderr, "  | %s\n", termtext.Line(line))
		}
	}
	if f.LogFile != "" {
		a.note("all of its output: %s", f.LogFile)
	}
	switch {
	case f.LookInside != "":
		a.note("look inside: %s", f.LookInside)
	case f.NotKept != "":
		a.note("look inside: not possible, %s", f.NotKept)
	}
	if f.Hint != "" {
		a.note("hint: %s", termtext.Lines(f.Hint))
	}
	if f.Resume != "" {
		a.note("go on with: %s", f.Resume)
	}
}

// An exitStatus is how a command in a container has ended. It is no error of
// this program's.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// A failures error holds what went wrong with several independent things.
type failures []error

func (f failures) Error() string   { return errors.Join(f...).Error() }
func (f failures) Unwrap() []error { return f }

// explainAll returns at least one failure.
func explainAll(err error) []failure {
	var settings *configError
	if errors.As(err, &settings) {
		all := explainRecipe(settings.all)
		for i := range all {
			all[i].ExitCode, all[i].Hint = codeUsage, "docs/cache.md has all settings"
		}
		return all
	}
	var bad recipe.Errors
	if errors.As(err, &bad) && len(bad) > 0 {
		return explainRecipe(bad)
	}
	var several failures
	if errors.As(err, &several) && len(several) > 0 {
		var all []failure
		for _, e := range several {
			all = append(all, explainAll(e)...)
		}
		return all
	}
	return []failure{explain(err)}
}

func explainRecipe(bad recipe.Errors) []failure {
	var all []failure
	for _, e := range bad {
		all = append(all, failure{
			Message: e.Error(), ExitCode: codeRecipe, Hint: worded(e.Code, e.Data, ""),
			File: e.File, Line: e.Line, Column: e.Column, snippet: e.Snippet(),
		})
	}
	return all
}

// explain is the one place that knows which error means which exit code.
func explain(err error) failure {
	f := failure{Message: err.Error(), ExitCode: codeOther}
	var (
		usage     *usageError
		one       *recipe.Error
		interrupt *interruptError
		step      *builder.StepError
		host      *builder.HostError
		leak      *builder.LeakError
		registry  *builder.RegistryError
		input     *builder.InputError
		command   *builder.CommandError
		limits    *limitsError
	)
	switch {
	case errors.As(err, &interrupt), errors.Is(err, context.Canceled):
		f.ExitCode, f.Hint, f.resumes = codeInterrupted, "finished steps are kept: run the command again to go on from there", true
	case errors.As(err, &limits):
		f.ExitCode, f.Hint = codeLimits, "'pdibuild inspect --tree IMAGE' shows where the files are from; limits are in "+inspect.LimitsFileName
	case errors.As(err, &usage):
		f.ExitCode, f.Hint = codeUsage, usage.hint
	case errors.As(err, &one):
		return explainRecipe(recipe.Errors{one})[0]
	case errors.As(err, &leak):
		f.ExitCode, f.Stage, f.Step = codeLeak, leak.Stage, leak.Step
		f.Hint, f.LogFile, f.NotKept = leakHint(leak), leak.LogFile, leak.NotKept
	case errors.As(err, &step):
		explainStep(&f, step)
	case errors.As(err, &command):
		f.ExitCode, f.Hint = command.ExitCode, "'pdibuild shell IMAGE' looks inside; write '--' before a command with flags of its own"
	case errors.As(err, &host):
		f.ExitCode, f.Hint = codeHost, host.Hint+" ('pdibuild doctor' looks at all of this host)"
	case errors.As(err, &registry):
		f.ExitCode, f.Hint, f.resumes = codeRegistry, registryHint(registry), true
	case errors.As(err, &input):
		f.ExitCode, f.Hint, f.Stage, f.Step = codeRecipe, remedy(input, input.Hint), input.Stage, input.Step
		f.setPlace(err)
	case errors.As(ownDiskError(err), &host):
		f.ExitCode, f.Hint = codeHost, host.Hint
	case errors.Is(err, fs.ErrPermission):
		f.Hint = "check who owns the file and its permissions"
	}
	return f
}

// ownDiskError makes a *HostError of an error in reading or writing a file, or
// standard output, outside of the store, if its disk is to blame.
func ownDiskError(err error) error {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return err
	}
	place := path.Path
	if place == os.Stdout.Name() {
		place = "standard output"
	}
	return builder.OutputError("", place, err)
}

// A placedError is an error about a step whose place in a file is known.
type placedError struct {
	err   error
	where *recipe.Error
}

func (e *placedError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.where.File, e.where.Line, e.where.Column, e.err)
}
func (e *placedError) Unwrap() error { return e.err }

func (f *failure) setPlace(err error) {
	var placed *placedError
	if errors.As(err, &placed) {
		f.File, f.Line, f.Column, f.snippet = placed.where.File, placed.where.Line, placed.where.Column, placed.where.Snippet()
	}
}

func explainStep(f *failure, step *builder.StepError) {
	f.ExitCode, f.Hint, f.resumes = codeStep, remedy(step, step.Hint), true
	f.Stage, f.Step = step.Stage, step.Step
	f.Tail, f.LogFile, f.kept, f.NotKept = step.Tail, step.LogFile, step.Kept, step.NotKept
	if f.Hint == "" && step.ExitCode >= 0 {
		f.Hint = "fix the step and run the command again: the steps before it are kept"
	}
}

func leakHint(leak *builder.LeakError) string {
	if leak.Step == 0 {
		return fmt.Sprintf("the image was not made; take the value out of the recipe and its arguments, or, if it is not confidential, say 'public: true' at the secret %s", leak.SecretID)
	}
	return fmt.Sprintf("the step was not kept; make it read the secret from /run/secrets/%s without writing it anywhere. "+
		"If the value is not confidential, say 'public: true' at the recipe's secret", leak.SecretID)
}

func registryHint(e *builder.RegistryError) string {
	if hint := remedy(e, e.Hint); hint != "" {
		return hint
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(e.Image, "docker://"), "/")
	return fmt.Sprintf("check the name and the network; log in with 'podman login %s', or give --creds or --authfile", host)
}

// asUsage makes an *InputError a usage error: with verbs that take everything
// from the command line, that is what is wrong.
func asUsage(err error) error {
	var input *builder.InputError
	var host *builder.HostError
	if errors.As(err, &input) && !errors.As(err, &host) {
		return &usageError{err: err, hint: remedy(input, input.Hint)}
	}
	return err
}
