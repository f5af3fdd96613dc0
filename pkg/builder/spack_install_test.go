package builder

import (
	"errors"
	"testing"

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
		err := &StepError{ExitCode: 1, Err: errors.New("exit status 1")}
		if got := outOfMemory(err, []spack.Failure{{Lines: []string{line}}}); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}
