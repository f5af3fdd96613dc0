package builder

import (
	"errors"
	"strings"
	"testing"
)

// The lines are those of gcc 12 in a Debian without the package in question.
func TestCompilerHint(t *testing.T) {
	for line, want := range map[string]bool{
		"/run/pdibuild-proof/proof.c:1:10: fatal error: stdio.h: No such file or directory": true,
		"/usr/bin/ld: cannot find Scrt1.o: No such file or directory":                       true,
		"collect2: fatal error: cannot find 'ld'":                                           true,
		"gcc: fatal error: cannot execute 'as': execvp: No such file or directory":          true,
		"/usr/bin/ld: cannot find -lc: No such file or directory":                           true,
		"/opt/gcc/bin/gcc: error while loading shared libraries: libmpfr.so.6":              false,
		"proof.c:3:1: fatal error: pdi.h: No such file or directory":                        false,
		"/usr/bin/ld: cannot find -lcuda: No such file or directory":                        false,
	} {
		err := compilerHint(&StepError{Tail: []string{line}, Err: errors.New("exit status 1"), Hint: "mend it"})
		var step *StepError
		if !errors.As(err, &step) || strings.Contains(step.Hint, "libc6-dev") != want {
			t.Errorf("%q: the hint is %q, want that of the C library: %v", line, step.Hint, want)
		}
	}
	if err := errors.New("other"); compilerHint(err) != err {
		t.Error("another error is changed")
	}
}
