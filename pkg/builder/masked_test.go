package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

const secretValue = "hunter22\nsecond line"

func testSecrets() *secret.Set {
	return secret.NewSet(map[string][]byte{"tok": []byte(secretValue)}, nil)
}

// whoSees returns all that a caller can get out of an error.
func whoSees(err error) string {
	var all []string
	add := func(ok bool, v any) {
		if ok {
			data, jsonErr := json.Marshal(v)
			all = append(all, fmt.Sprintf("%v %+v %#v %s %v", v, v, v, data, jsonErr))
		}
	}
	var step *StepError
	var host *HostError
	var leak *LeakError
	var registry *RegistryError
	var input *InputError
	var command *CommandError
	var path *fs.PathError
	add(true, err)
	add(errors.As(err, &step), step)
	add(errors.As(err, &host), host)
	add(errors.As(err, &leak), leak)
	add(errors.As(err, &registry), registry)
	add(errors.As(err, &input), input)
	add(errors.As(err, &command), command)
	add(errors.As(err, &path), path)
	for _, e := range []interface{ Unwrap() error }{step, host, registry, input, command, path} {
		if fmt.Sprintf("%v", e) != "<nil>" {
			if inner := e.Unwrap(); inner != nil {
				all = append(all, whoSees(inner))
			}
		}
	}
	if next := errors.Unwrap(err); next != nil {
		all = append(all, whoSees(next))
	}
	return strings.Join(all, "\n")
}

// Whatever the value of a secret is in, no error that leaves the package shows
// it, and each is still found as what it is.
func TestErrorsAreMasked(t *testing.T) {
	value := secretValue
	cause := errors.New("because of " + value)
	for name, err := range map[string]error{
		"text alone":                cause,
		"file name in a path error": fmt.Errorf("copy: %w", &fs.PathError{Op: "open", Path: "/dir/" + value, Err: fs.ErrNotExist}),
		"directory name":            &fs.PathError{Op: "mkdir", Path: "/" + value + "/sub", Err: fs.ErrPermission},
		"link target":               fmt.Errorf("link /a -> %s: %w", value, fs.ErrInvalid),
		"quoted name":               fmt.Errorf("layer entry %q: %w", value, cause),
		"mount target":              &StepError{Stage: "s", Step: 2, Err: fmt.Errorf("mount /%s: %w", value, cause)},
		"argv of a step":            &StepError{Stage: "s", Step: 2, Text: "run login " + value, Err: errors.New("exit status 1")},
		"summary of a step":         &StepError{Stage: "s", Step: 2, Text: "run login " + strings.ReplaceAll(value, "\n", " "), Err: errors.New("exit status 1")},
		"shortened summary":         &StepError{Stage: "s", Step: 2, Text: "run login hunter…", Err: errors.New("exit status 1")},
		"argv, quoted":              fmt.Errorf("start %q: %w", []string{"login", value}, cause),
		"tail":                      &StepError{Stage: "s", Tail: []string{"ok", "hunter22", "second line"}, Err: errors.New("exit status 1")},
		"log file":                  &StepError{Stage: "s", LogFile: "/log/" + value + ".log", Err: errors.New("exit status 1")},
		"hint of a step":            &StepError{Stage: "s", Hint: "do not " + value, Err: errors.New("exit status 1")},
		"variable":                  &CommandError{ExitCode: 127, Err: fmt.Errorf("invalid environment variable: %q", "T="+value)},
		"label":                     &LeakError{Stage: "s", SecretID: "tok", Where: "the label " + value, Form: "raw"},
		"text of a leak":            &LeakError{Stage: "s", Step: 1, Text: value, SecretID: "tok", Where: "file /x", Form: "raw", LogFile: "/" + value},
		"host":                      hostErrorWith("mount "+value, "look at "+value, cause),
		"registry":                  &RegistryError{Op: "push", Image: "r.example/" + value, Hint: value, Err: cause},
		"input":                     &InputError{Subject: "copy " + value, Hint: value, Stage: value, Err: cause},
		"data":                      &InputError{Hint: "x", Code: "x", Data: map[string]string{"x": value}, Err: errors.New("y")},
		"several":                   errors.Join(errors.New("harmless"), fmt.Errorf("wrapped: %w", &StepError{Text: value, Err: cause})),
		"url":                       errors.New("get https://u:hunter22%0Asecond%20line@host/"),
	} {
		masked := maskError(testSecrets(), err)
		seen := whoSees(masked)
		for _, part := range []string{"hunter", "second"} {
			if strings.Contains(seen, part) {
				t.Errorf("%s: %q is visible:\n%s", name, part, seen)
			}
		}
		if !strings.Contains(seen, "***") {
			t.Errorf("%s: nothing was masked:\n%s", name, seen)
		}
		for _, kind := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid} {
			if errors.Is(err, kind) != errors.Is(masked, kind) {
				t.Errorf("%s: errors.Is(%v) is %v after masking", name, kind, errors.Is(masked, kind))
			}
		}
		var before, after *StepError
		if errors.As(err, &before) != errors.As(masked, &after) {
			t.Errorf("%s: a *StepError before or after masking only: %v, %v", name, before, after)
		}
	}
}

// An error of the caller's own, which says nothing secret, is found as before.
type ownError struct{ code int }

func (e *ownError) Error() string { return fmt.Sprint("code ", e.code) }

func TestMaskedErrorsStayFound(t *testing.T) {
	harmless := fmt.Errorf("x: %w", &StepError{Text: "run true", Err: context.Canceled})
	if got := maskError(testSecrets(), harmless); got != harmless {
		t.Errorf("an error without a secret became %#v", got)
	}
	masked := maskError(testSecrets(), fmt.Errorf("%s: %w", secretValue, errors.Join(context.Canceled, &ownError{7})))
	var own *ownError
	if !errors.Is(masked, context.Canceled) || !errors.As(masked, &own) || own.code != 7 {
		t.Errorf("lost what it wraps: %v", masked)
	}
	if got := maskError(secret.NewSet(nil, nil), masked); got != masked {
		t.Errorf("without secrets it became %v", got)
	}
}

func hostErrorWith(op, hint string, err error) error {
	e := hostError(op, err, hosthelp.Store)
	e.Hint = hint
	return e
}

func TestEventsAreMasked(t *testing.T) {
	r := &recipe.Recipe{Secrets: map[string]recipe.Secret{"tok": {}, "user": {Public: true}}}
	s := secretSet(r, map[string][]byte{"tok": []byte(secretValue), "user": []byte("public-name")})
	packages := &progress.Packages{Building: []string{"hunter22@1", "zlib@1"}}
	e := maskEvent(s, Event{Kind: progress.Package, Stage: "on-hunter22", Text: "public-name " + secretValue, Packages: packages})
	if e.Stage != "on-***" || e.Text != "public-name ***" || e.Packages.Building[0] != "***@1" || packages.Building[0] != "hunter22@1" {
		t.Errorf("%+v, %v", e, e.Packages)
	}
}
