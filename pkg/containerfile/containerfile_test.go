package containerfile_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/pdidev/pdibuild/pkg/containerfile"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func write(t *testing.T, dir string, format containerfile.Format) string {
	t.Helper()
	r, err := recipe.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := containerfile.Write(r, os.DirFS(dir), containerfile.Options{Format: format})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// UPDATE_GOLDEN=1 writes the files anew.
func TestGolden(t *testing.T) {
	for _, name := range []string{"all", "environment"} {
		for _, format := range containerfile.Formats() {
			t.Run(name+"/"+string(format), func(t *testing.T) {
				dir := filepath.Join("testdata", name)
				golden := dir + "." + string(format)
				got := write(t, dir, format)
				if os.Getenv("UPDATE_GOLDEN") != "" {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("%s differs; if it should, run UPDATE_GOLDEN=1 go test. Got:\n%s", golden, got)
				}
				if format == containerfile.Docker {
					instructions(t, got)
				}
			})
		}
	}
}

// An instruction is one as builders read it.
type instruction struct {
	name, args string
	flags      []string
	json       bool
	words      []string
}

func instructions(t *testing.T, text string) []instruction {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatalf("it is no Containerfile: %v\n%s", err, text)
	}
	if len(parsed.Warnings) > 0 {
		t.Errorf("a builder warns: %v\n%s", parsed.Warnings, text)
	}
	var all []instruction
	for _, n := range parsed.AST.Children {
		i := instruction{name: n.Value, flags: n.Flags, json: n.Attributes["json"]}
		for w := n.Next; w != nil; w = w.Next {
			i.words = append(i.words, w.Value)
		}
		i.args = strings.Join(i.words, " ")
		if len(n.Heredocs) > 0 {
			t.Errorf("a builder sees a here-document in %s", i.args)
		}
		all = append(all, i)
	}
	return all
}

// runOf returns the command of the only RUN instruction.
func runOf(t *testing.T, text string) []string {
	t.Helper()
	for _, i := range instructions(t, text) {
		if i.name == "RUN" {
			if i.json {
				return i.words
			}
			return []string{"/bin/sh", "-c", i.args}
		}
	}
	t.Fatalf("there is no RUN in\n%s", text)
	return nil
}

var hostileScripts = []string{
	"printf hello",
	"printf 'a\\nb'",
	"# only a comment\nprintf x\n\n\n# more\n  printf y",
	"cat <<EOF\nit's $HOME\nEOF\n",
	"cat <<'A' - <<B\n\\\nA\nx",
	"[ -n x ] && printf bracket",
	"printf '%s' \"back\\\\slash\"; printf end \\\n  joined",
	"printf 1; cat << E\n two\nE",
	"x=1; printf $x \\",
}

func TestScriptsStayTheSame(t *testing.T) {
	for _, script := range hostileScripts {
		same(t, script)
	}
}

// same runs a script as the recipe has it and as the Containerfile has it.
func same(t *testing.T, script string) {
	t.Helper()
	r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{{
		Name: "s", From: "docker.io/library/debian:12", Steps: []recipe.Step{recipe.Run{Command: recipe.Script(script)}},
	}}}
	data, err := containerfile.Write(r, nil, containerfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	argv := runOf(t, string(data))
	if got, want := shell(t, argv), shell(t, []string{"/bin/sh", "-c", script}); got != want {
		t.Errorf("%q prints %q, and in a Containerfile %q:\n%s", script, want, got, data)
	}
}

func shell(t *testing.T, argv []string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nowhere"}
	out, err := cmd.Output()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

func TestFilesStayTheSame(t *testing.T) {
	for _, content := range []string{"", "x", "x\n", "\n", "a\n\n#b\\\n'c'\n\t$d `e` <<F %s", "a\nb\n\n", "<<EOF\n"} {
		name := filepath.Join(t.TempDir(), "made")
		r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{{
			Name: "s", From: "docker.io/library/debian:12", Steps: []recipe.Step{recipe.File{Path: name, Content: content, Mode: "0640"}},
		}}}
		data, err := containerfile.Write(r, nil, containerfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		shell(t, runOf(t, string(data)))
		got, err := os.ReadFile(name)
		if err != nil || string(got) != content {
			t.Errorf("%q becomes %q (%v):\n%s", content, got, err, data)
		}
		if info, err := os.Stat(name); err == nil && info.Mode().Perm() != 0o640 {
			t.Errorf("the mode is %v", info.Mode())
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("a\n#b")
	f.Fuzz(func(t *testing.T, content string) {
		if strings.ContainsAny(content, "\x00\r") || len(content) > 1000 {
			t.Skip()
		}
		r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{{Name: "s", From: "scratch", Steps: []recipe.Step{recipe.File{Path: "/f", Content: content}}}}}
		data, err := containerfile.Write(r, nil, containerfile.Options{})
		if err != nil {
			t.Skip()
		}
		if n := len(instructions(t, string(data))); n != 2 {
			t.Errorf("%q makes %d instructions:\n%s", content, n, data)
		}
	})
}

func TestErrors(t *testing.T) {
	spackStep := recipe.Spack{Spack: recipe.SpackInstall{Environment: "none/spack.yaml"}}
	for name, c := range map[string]struct {
		steps []recipe.Step
		opt   containerfile.Options
		says  string
	}{
		"no environment": {[]recipe.Step{spackStep}, containerfile.Options{}, "none/spack.yaml"},
		"no such stage":  {nil, containerfile.Options{Target: "x"}, `no stage "x"`},
		"no such arg":    {nil, containerfile.Options{Args: map[string]string{"X": "1"}}, `no argument "X"`},
		"nothing to take": {
			[]recipe.Step{recipe.Spack{Spack: recipe.SpackInstall{Inline: map[string]any{"specs": []string{"x"}}, Repos: []string{"gone"}}}},
			containerfile.Options{},
			"package repository gone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recipe.Recipe{Version: 1, Stages: []recipe.Stage{{Name: "s", From: "docker.io/library/debian:12", Steps: c.steps}}}
			_, err := containerfile.Write(r, os.DirFS(t.TempDir()), c.opt)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, want %q", err, c.says)
			}
		})
	}
}

func TestDefinitionHasShellSyntax(t *testing.T) {
	for _, name := range []string{"all", "environment"} {
		text := write(t, filepath.Join("testdata", name), containerfile.Singularity)
		for i, part := range strings.Split(text, "\n%") {
			title, body, _ := strings.Cut(part, "\n")
			if i == 0 || !strings.HasPrefix(title, "post") && !strings.HasPrefix(title, "environment") && !strings.HasPrefix(title, "runscript") {
				continue
			}
			body, _, _ = strings.Cut(body, "\nBootstrap: ")
			cmd := exec.CommandContext(t.Context(), "sh", "-n")
			cmd.Stdin = bytes.NewBufferString(body)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%%%s of %s: %v\n%s\n%s", title, name, err, out, body)
			}
		}
	}
}
