package failure_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pdidev/pdibuild/pkg/failure"
)

// An error that takes over a hint takes over its code; one with another hint
// does not.
func TestCodeOf(t *testing.T) {
	inner := &failure.InputError{Err: errors.New("x"), Hint: "build it", Code: failure.StageNotBuilt, Data: failure.Data{"stage": "a"}}
	for name, test := range map[string]struct {
		err  error
		want failure.Code
	}{
		"itself":       {inner, failure.StageNotBuilt},
		"wrapped":      {fmt.Errorf("y: %w", inner), failure.StageNotBuilt},
		"passed on":    {&failure.InputError{Err: fmt.Errorf("y: %w", inner), Hint: inner.Hint}, failure.StageNotBuilt},
		"another hint": {&failure.InputError{Err: inner, Hint: "something else"}, ""},
		"no code":      {&failure.StepError{Err: errors.New("x")}, ""},
		"another":      {errors.New("x"), ""},
	} {
		code, data := failure.CodeOf(test.err)
		if code != test.want || code != "" && data["stage"] != "a" {
			t.Errorf("%s: %q %v", name, code, data)
		}
	}
}
