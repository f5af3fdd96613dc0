package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/builder"
)

func TestRunFlags(t *testing.T) {
	e := &fakeEngine{}
	a := newTestApp(e)
	a.env["HERE"] = "x"
	args := []string{
		"run", "-v", "/src:/dst", "-v", "./rel:/ro:ro,z", "-w", "/work", "-e", "A=1", "-e", "HERE", "-e", "NOT_HERE",
		"-u", "pdi", "--network", "none", "--entrypoint", `["a", "b"]`, "--pull", "never", "-it", "image:1", "--", "cmd", "--flag",
	}
	if code := a.main(args); code != 0 {
		t.Fatalf("exit code %d: %s", code, a.err.String())
	}
	got := e.opened[0]
	got.opt.Events = nil
	want := openedContainer{"image", "image:1", builder.ContainerOptions{
		Args: []string{"cmd", "--flag"}, Entrypoint: []string{"a", "b"}, Env: []string{"A=1", "HERE=x"}, HostEnv: map[string]string{},
		User: "pdi", Workdir: "/work", NoNetwork: true, Pull: builder.PullNever,
		Volumes: []builder.Volume{{Source: "/src", Target: "/dst"}, {Source: "./rel", Target: "/ro", ReadOnly: true}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The exit code of the command is that of the program, which adds no words.
func TestRunExitCode(t *testing.T) {
	e := &fakeEngine{run: func(builder.Streams) (int, error) { return 42, nil }}
	a := newTestApp(e)
	if code := a.main([]string{"run", "image"}); code != 42 || a.err.String() != "" {
		t.Errorf("exit code %d and message %q, want 42 and none", code, a.err.String())
	}
	e.run = func(builder.Streams) (int, error) {
		return 0, &builder.CommandError{ExitCode: 127, Err: errors.New("command not found: x")}
	}
	if code := a.main([]string{"run", "image"}); code != 127 || !strings.Contains(a.err.String(), "error: command not found: x\n") {
		t.Errorf("exit code %d and message %q, want 127 and the reason", code, a.err.String())
	}
}

// A terminal is given when both ends are one, unless the flags say otherwise.
func TestRunTerminal(t *testing.T) {
	tests := []struct {
		flags         string
		stdin, stdout bool
		want          bool
	}{
		{"", true, true, true},
		{"", true, false, false},
		{"", false, true, false},
		{"-t", false, false, true},
		{"-it", true, false, true},
		{"--tty=false", true, true, false},
		{"--interactive=false", true, true, false},
	}
	for _, test := range tests {
		var got builder.Streams
		a := newTestApp(&fakeEngine{run: func(s builder.Streams) (int, error) { got = s; return 0, nil }})
		a.console = func() console { return console{stdin: test.stdin, stdout: test.stdout} }
		a.main(append(append([]string{"run"}, strings.Fields(test.flags)...), "image"))
		if got.Terminal != test.want {
			t.Errorf("%q with terminals %v and %v: terminal %v, want %v", test.flags, test.stdin, test.stdout, got.Terminal, test.want)
		}
	}
}

func TestVolumes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"/a:/b", ""},
		{".:/b:rw", ""},
		{"/a", "not SOURCE:TARGET"},
		{":/b", "no SOURCE"},
		{"data:/b", "./data"},
		{"/a:b", `TARGET "b"`},
		{"/a:/", `TARGET "/"`},
		{"/a:/b:rx", `unknown option "rx"`},
		{"/a:/b:ro:z", "not SOURCE:TARGET"},
	}
	for _, test := range tests {
		_, err := parseVolume(test.text)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.text, err, test.want)
		}
	}
}

func TestShellTargets(t *testing.T) {
	writeRecipe(t, smallRecipe)
	tests := []struct {
		args string
		kind string
		code int
		say  string
	}{
		{"image -- make -j", "image", 0, ""},
		{"--failed", "failed", 0, ""},
		{"--failed . -- make", "failed", 0, ""},
		{"--stage base", "stage", 0, ""},
		{"--stage bse", "", 2, "did you mean"},
		{"--stage base --failed", "", 2, "two different things"},
		{"", "", 2, "IMAGE, --stage NAME or --failed"},
		{"image make", "", 2, "write '--' before a command"},
		{"--failed /no/such/dir", "", 2, "build context"},
		{"--rm=false image", "", 2, "volume"},
		{"-w rel image", "", 2, "write -w /rel"},
		{"-e =x image", "", 2, "names no variable"},
	}
	for _, test := range tests {
		e := &fakeEngine{}
		a := newTestApp(e)
		code := a.main(append([]string{"shell"}, strings.Fields(test.args)...))
		if code != test.code || !strings.Contains(a.err.String(), test.say) {
			t.Errorf("%q: exit code %d, want %d and %q\n%s", test.args, code, test.code, test.say, a.err.String())
		}
		if test.kind != "" && (len(e.opened) != 1 || e.opened[0].kind != test.kind || !e.opened[0].opt.Shell) {
			t.Errorf("%q opened %+v, want %s", test.args, e.opened, test.kind)
		}
	}
}

// The message about a failed step says how to look inside, in a form that can
// be pasted.
func TestLookInside(t *testing.T) {
	v := &buildVerb{store: storeFlags{root: "/my store"}, plan: planFlags{file: "it's.yaml", contextDir: "dir"}}
	const want = `pdibuild shell --failed --storage-root '/my store' --file 'it'\''s.yaml' dir`
	if got := v.lookInside(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
