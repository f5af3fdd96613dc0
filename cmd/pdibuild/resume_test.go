package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// What has stopped says with which command it goes on, in a form that can be
// pasted: all that was said the first time, but for what would begin again and
// for passwords.
func TestResume(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		err  error
		want string
	}{
		"as it was": {[]string{"build", "--tag", "HPCAsia2026"}, &builder.StepError{Err: errors.New("broken")}, "pdibuild build --tag HPCAsia2026"},
		"everything": {
			[]string{"build", "-t", "1.0", "-t", "2.0", "--no-cache", "--pull", "--push", "--tls-verify=false", "-j", "3", "--build-arg", "GCC=it's", "--creds", "me:secret", "."},
			&builder.StepError{Err: errors.New("broken")},
			`pdibuild build --build-arg 'GCC=it'\''s' --creds me --jobs 3 --pull --push --tag 1.0 --tag 2.0 --tls-verify=false .`,
		},
		"interrupted":      {[]string{"build"}, context.Canceled, "pdibuild build"},
		"a registry fails": {[]string{"build", "--push"}, &builder.RegistryError{Op: "push", Err: errors.New("503")}, "pdibuild build --push"},
		"wrong input":      {[]string{"build"}, &builder.InputError{Err: errors.New("no file")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			writeRecipe(t, smallRecipe)
			e := &fakeEngine{}
			e.build = func(context.Context, *builder.Plan, builder.BuildOptions) (*builder.Result, error) { return nil, c.err }
			a := newTestApp(e)
			if code := a.main(c.args); code == 0 {
				t.Fatal("it has succeeded")
			}
			_, got, found := strings.Cut(a.err.String(), "go on with: ")
			if found != (c.want != "") || strings.TrimSuffix(got, "\n") != c.want {
				t.Errorf("it goes on with %q, want %q\n%s", got, c.want, a.err.String())
			}
		})
	}
}
