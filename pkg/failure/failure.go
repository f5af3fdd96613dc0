// Package failure has the errors that the libraries of pdibuild return for what
// can go wrong with a build: a recipe that does not fit its inputs, a step that
// fails, a host that lacks something, a secret that would leak, a registry that
// refuses. pdibuild's command has an exit code for each.
package failure

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pdidev/pdibuild/internal/hosthelp"
)

// A HostError is about something that this host lacks for the build, and how to
// get it.
type HostError struct {
	// Op is what was tried, Hint the way out.
	Op, Hint string
	// Topic is the entry of the host's help that Hint is taken from.
	Topic string
	Err   error
}

// Host returns the error about a topic of the host's help, with that topic's
// way out.
func Host(op string, err error, topic hosthelp.Topic) *HostError {
	return &HostError{Op: op, Err: err, Hint: hosthelp.Here(topic).Hint(), Topic: string(topic)}
}

func (e *HostError) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *HostError) Unwrap() error { return e.Err }

// A StepError names the step that failed, and why.
type StepError struct {
	// Stage and Step (from 1), Text is the step in one line.
	Stage string
	Step  int
	Text  string
	// ExitCode of the command, or -1 when it did not come to that.
	ExitCode int
	// Tail holds the last lines of masked output.
	Tail []string
	// LogFile has all of it.
	LogFile string
	// Hint is the way out where one is known, Code and Data the same for programs.
	Hint string
	Code Code
	Data Data
	// Kept is true when the step's container is kept for a look inside; see
	// FailedContainer of pkg/builder. NotKept is why it could not be kept.
	Kept    bool
	NotKept string
	Err     error
}

func (e *StepError) Error() string {
	return fmt.Sprintf("stage %q, step %d (%s): %v", e.Stage, e.Step, e.Text, e.Err)
}
func (e *StepError) Unwrap() error { return e.Err }

// A CommandError is about a command that could not be started: the root file
// system does not have it, or this machine cannot execute it.
type CommandError struct {
	// ExitCode is 127 when there is no such command, else 126.
	ExitCode int
	Err      error
}

func (e *CommandError) Error() string { return e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// A LeakError is about a secret whose value would have become part of the image,
// or was left in a cache mount.
type LeakError struct {
	// Stage and Step (from 1) stored it, Text is the step in one line. Step is 0
	// when the settings of the stage's image have it.
	Stage string
	Step  int
	Text  string
	// SecretID names the secret, Where the file or the part of the image's
	// configuration, and Form is how the value is written there, such as raw,
	// base64 or url-encoded.
	SecretID, Where, Form string
	// LogFile has the output of the step's command, if it ran one, and NotKept
	// is why there is no container of it to look into.
	LogFile, NotKept string
}

func (e *LeakError) Error() string {
	place := fmt.Sprintf("stage %q", e.Stage)
	if e.Step > 0 {
		place += fmt.Sprintf(", step %d (%s)", e.Step, e.Text)
	}
	return fmt.Sprintf("%s: the value of secret %q is in %s (%s)", place, e.SecretID, e.Where, e.Form)
}

// A RegistryError is about a registry that refused or could not be reached.
type RegistryError struct {
	// Op is "pull" or "push", Image the reference.
	Op, Image string
	// NotInStore is set for an image whose name could have been that of one in the
	// store.
	NotInStore bool
	// Hint is the way out where one is known, Code and Data the same for programs.
	Hint string
	Code Code
	Data Data
	Err  error
}

func (e *RegistryError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Op, e.Image, e.Err)
}
func (e *RegistryError) Unwrap() error { return e.Err }

// An InputError is about a recipe that does not fit what it is applied to:
// context, arguments, secrets, options.
type InputError struct {
	// Subject is what is wrong, Hint the way out, Code and Data the same for
	// programs.
	Subject, Hint string
	Code          Code
	Data          Data
	// Stage and Step, counted from 1, are where it is in the recipe; Step is 0
	// for what is not about a step.
	Stage string
	Step  int
	Err   error
}

func (e *InputError) Error() string {
	return strings.TrimPrefix(e.Subject+": "+e.Err.Error(), ": ")
}
func (e *InputError) Unwrap() error { return e.Err }

// ErrUnsupported is wrapped by errors about recipe steps that this version
// parses but cannot run yet.
var ErrUnsupported = errors.New("not supported by this version")
