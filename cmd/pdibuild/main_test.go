package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// TestMain lets the test binary be pdibuild: for the helper processes of a
// build, for scripts, and for the copy of itself that enters a namespace and
// is recognised by the name it had before.
func TestMain(m *testing.M) {
	if builder.Init() {
		return
	}
	os.Args[0] = strings.TrimSuffix(os.Args[0], "-in-a-user-namespace")
	testscript.Main(m, map[string]func(){
		"pdibuild": func() { os.Exit(newApp().main(os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// What the machine's owner has set must not decide a test.
			env.Setenv("SOURCE_DATE_EPOCH", "")
			env.Setenv("REGISTRY_AUTH_FILE", "")
			env.Setenv("XDG_RUNTIME_DIR", env.WorkDir)
			return nil
		},
	})
}
