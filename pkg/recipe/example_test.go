package recipe_test

import (
	"fmt"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func ExampleParse() {
	_, err := recipe.Parse("pdibuild.yaml", []byte(`version: 1
stages:
  - name: build
    from: docker.io/library/debian:12
  - name: final
    from: biuld
    steps:
      - copy: app
        dest: /app
`))
	fmt.Println(err)
	// Output:
	// pdibuild.yaml:6:11: there is no stage "biuld" (did you mean "build"?)
	// pdibuild.yaml:9:9: unknown key "dest"; the keys here are copy, to, from, owner, mode, checksum, exclude (did you mean "to"?)
}

// A recipe may be made in Go. It means the same as the YAML that Marshal
// writes for it.
func ExampleRecipe() {
	r := &recipe.Recipe{
		Version: recipe.Version,
		Stages: []recipe.Stage{
			{Name: "build", From: "docker.io/library/gcc:15", Steps: []recipe.Step{
				recipe.Copy{Sources: []string{"hello.c"}, To: "/src/"},
				recipe.Run{Command: recipe.Script("gcc -static -o /hello /src/hello.c")},
			}},
			{Name: "final", From: "scratch", Steps: []recipe.Step{
				recipe.Copy{Sources: []string{"/hello"}, From: "build", To: "/hello"},
				recipe.Check{Command: recipe.Exec("/hello")},
			}},
		},
	}
	if err := r.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	text, err := recipe.Marshal(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// version: 1
	// stages:
	//   - name: build
	//     from: docker.io/library/gcc:15
	//     steps:
	//       - copy:
	//           - hello.c
	//         to: /src/
	//       - run: gcc -static -o /hello /src/hello.c
	//   - name: final
	//     from: scratch
	//     steps:
	//       - copy:
	//           - /hello
	//         to: /hello
	//         from: build
	//       - check:
	//           - /hello
}

// A recipe that was made in Go has no lines: its errors have paths.
func TestErrorsOfARecipeMadeInGo(t *testing.T) {
	r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{
		{Name: "a", From: "scratch", Steps: []recipe.Step{
			nil,
			&recipe.Workdir{Workdir: "/"},
			recipe.Copy{Sources: []string{"x"}, To: "x", From: "b"},
			recipe.Run{Command: recipe.Command{Shell: "a", Argv: []string{"b"}}},
			recipe.Spack{Spack: recipe.SpackInstall{Environment: "e", Inline: map[string]any{}}},
		}},
		{From: "a"},
	}}
	err := r.Validate()
	want := `stages[0].steps[0]: the step is missing
stages[0].steps[1]: *recipe.Workdir is not a step of package recipe (use the value, not a pointer)
stages[0].steps[2].from: there is no stage "b"
stages[0].steps[2].to: "x" must be an absolute path
stages[0].steps[3].run: a command is a string or a list, not both
stages[0].steps[4].spack.environment: is a path or an environment, not both
stages[1].name: the stage needs a name`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := (&recipe.Recipe{}).Validate(); err == nil {
		t.Error("an empty recipe is valid")
	}
}
