package spackinstall

import (
	"errors"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Lines as gcc 12, GNU make 4.3, ninja 1.11, bash 5.2 and Python 3.11 print
// them when the kernel has killed a process or given it no memory.
func TestOutOfMemoryIsRecognised(t *testing.T) {
	for line, want := range map[string]bool{
		"  g++: fatal error: Killed signal terminated program cc1plus":       true,
		"> make: *** [Makefile:2: a.o] Killed":                               true,
		"> make[2]: *** [CMakeFiles/x.dir/build.make:76: x.cpp.o] Error 137": true,
		"collect2: fatal error: ld terminated with signal 9 [Killed]":        true,
		"  cc1plus: out of memory allocating 65536 bytes":                    true,
		"  Command exited with status -9:":                                   true,
		"/bin/sh: line 1:    12 Killed":                                      true,
		"OSError: [Errno 12] Cannot allocate memory":                         true,
		"> make: *** [Makefile:2: a.o] Error 1":                              false,
		"  cc -c Killed.c":                                                   false,
		"> a.c:1: error: 'Killed' undeclared":                                false,
	} {
		err := &failure.StepError{ExitCode: 1, Err: errors.New("exit status 1")}
		if got := outOfMemory(err, []spack.Failure{{Lines: []string{line}}}); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// The output is that of Spack 1.3.
func TestLastError(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
		hint  string
	}{
		"version": {[]string{"==> Error: No version exists that satisfies these input specs:", "    app@9"}, "No version exists that satisfies these input specs: app@9", "loosen"},
		"name":    {[]string{"==> Error: cannot concretize 'nosuch', since 'nosuch' does not exist"}, "cannot concretize 'nosuch', since 'nosuch' does not exist", "repos:"},
		"before another message": {
			[]string{"==> Error: No such variant 'x' in package gcc", "==> Concretizing the 'compiler' group of specs"},
			"No such variant 'x' in package gcc", "loosen",
		},
		"package.py": {[]string{"==> Error: cannot load package 'app' from the 'own' repository: expected ':' (package.py, line 4)"}, "cannot load package 'app' from the 'own' repository: expected ':' (package.py, line 4)", "correct that package.py"},
		"include":    {[]string{"==> Error: Required path (../more/packages.yaml) does not exist at (/opt/more/packages.yaml)"}, "Required path (../more/packages.yaml) does not exist at (/opt/more/packages.yaml)", "include:"},
		"view": {
			[]string{"==> Error: The environment view at /usr/local cannot be updated because it is a non-empty directory or file not managed by Spack. Please remove it manually to update the view."},
			"The environment view at /usr/local cannot be updated because it is a non-empty directory or file not managed by Spack. Please remove it manually to update the view.", "view:",
		},
		"solver":       {[]string{"==> Error: failed to concretize `hx-leaf@1.0` for the following reasons:", "     1. Cannot satisfy 'hx-leaf@1.0' and 'hx-leaf@2.0'"}, "failed to concretize `hx-leaf@1.0` for the following reasons: 1. Cannot satisfy 'hx-leaf@1.0' and 'hx-leaf@2.0'", "loosen"},
		"garbage lock": {[]string{"==> Error: Expecting value: line 1 column 1 (char 0)"}, "Expecting value: line 1 column 1 (char 0)", ""},
		"none":         {[]string{"all is well"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lastError(c.lines); got != c.want {
				t.Errorf("the error is %q, want %q", got, c.want)
			}
			if hint := concretizeHint(c.want); !strings.Contains(hint, c.hint) || c.hint == "" && hint != "" {
				t.Errorf("the hint is %q and does not say %q", hint, c.hint)
			}
		})
	}
}
