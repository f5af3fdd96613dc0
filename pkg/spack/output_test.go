package spack_test

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// tell says an event in one line, without what is different each time.
func tell(e spack.Event) string {
	kind := []string{"", "phase", "installed", "external", "failed", "skipped", "pushed", "warning", "error"}[e.Kind]
	text := kind
	if e.Name != "" {
		text += " " + e.Name + "@" + e.Version
	}
	for _, s := range []string{e.Phase, strings.SplitN(e.Text, "\n", 2)[0]} {
		if s != "" {
			text += " " + s
		}
	}
	if e.FromCache {
		text += ", from cache"
	}
	if e.Already {
		text += ", already"
	}
	if e.Total > 0 && e.Kind == spack.EventPushed {
		text += fmt.Sprintf(" %d/%d", e.Number, e.Total)
	}
	return text
}

// events runs an output through the parser, byte by byte.
func events(t *testing.T, data []byte, specs spack.Graph) ([]spack.Event, []spack.Failure) {
	t.Helper()
	var list []spack.Event
	o := &spack.Output{Handle: func(e spack.Event) { list = append(list, e) }, Specs: specs}
	if _, err := io.Copy(o, iotest.OneByteReader(strings.NewReader(string(data)))); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return list, o.Failures()
}

func tellAll(list []spack.Event) []string {
	var lines []string
	for _, e := range list {
		lines = append(lines, tell(e))
	}
	return lines
}

// of keeps the lines about a package.
func of(name string, lines []string) []string {
	var kept []string
	for _, l := range lines {
		if strings.Contains(l, " "+name+"@") {
			kept = append(kept, l)
		}
	}
	return kept
}

func TestOutput(t *testing.T) {
	for file, want := range map[string][]string{
		"spack-1.3/install.log": {
			"phase hello-compiled@1.0 fetching from build cache", "phase hello-compiled@1.0 no binary available",
			"phase hello-compiled@1.0 staging", "phase hello-compiled@1.0 edit", "phase hello-compiled@1.0 build",
			"phase hello-compiled@1.0 install", "installed hello-compiled@1.0",
		},
		"spack-1.3/install-cached.log": {
			"phase hello-compiled@1.0 fetching from build cache", "phase hello-compiled@1.0 relocating",
			"installed hello-compiled@1.0, from cache",
		},
		"spack-0.24/install.log": {
			"phase hello-compiled@1.0 starting", "phase hello-compiled@1.0 no binary available", "phase hello-compiled@1.0 edit",
			"phase hello-compiled@1.0 build", "phase hello-compiled@1.0 install", "installed hello-compiled@1.0",
		},
		"spack-0.24/install-cached.log": {
			"phase hello-compiled@1.0 starting", "phase hello-compiled@1.0 extracting", "installed hello-compiled@1.0, from cache",
		},
		"spack-1.3/push.log":     {"pushed hello-compiled@1.0 5/6"},
		"spack-1.3/oci/push.log": {"pushed hello-compiled@1.0 5/6"},
	} {
		version, _, _ := strings.Cut(file, "/")
		l := lock(t, "testdata", version, "spack.lock")
		list, failures := events(t, readFile(t, "testdata", file), l.Specs)
		if got := of("hello-compiled", tellAll(list)); !reflect.DeepEqual(got, want) || failures != nil {
			t.Errorf("%s: got\n%s\nwant\n%s\n%v", file, strings.Join(got, "\n"), strings.Join(want, "\n"), failures)
		}
		for _, e := range list {
			if e.Name == "" {
				continue
			}
			if s := l.Specs[e.Hash]; s == nil || s.Name != e.Name || s.Version != e.Version {
				t.Errorf("%s: %+v is %v", file, e, s)
			}
			if e.Kind == spack.EventExternal != (e.Prefix == "/usr") || e.Kind == spack.EventInstalled && !strings.HasSuffix(e.Prefix, e.Hash) {
				t.Errorf("%s: %+v", file, e)
			}
		}
	}
}

// Without the lock file the same is said, but for the hashes.
func TestOutputWithoutSpecs(t *testing.T) {
	for _, file := range []string{"spack-0.19/install.log", "spack-0.24/install.log", "spack-1.3/install.log", "spack-1.3/install-failed.log"} {
		version, _, _ := strings.Cut(file, "/")
		data := readFile(t, "testdata", file)
		with, _ := events(t, data, lock(t, "testdata", version, "spack.lock").Specs)
		without, _ := events(t, data, nil)
		if a, b := tellAll(with), tellAll(without); !reflect.DeepEqual(a, b) || len(a) < 6 {
			t.Errorf("%s: with the lock\n%s\nwithout\n%s", file, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	}
}

// A failure names package, phase, log, and the lines that tell why.
func TestOutputFailures(t *testing.T) {
	for file, want := range map[string][]string{
		"spack-1.3/install-failed.log": {
			"phase hello-broken@6.6 fetching from build cache", "phase hello-broken@6.6 no binary available", "phase hello-broken@6.6 staging",
			"phase hello-broken@6.6 configure", "phase hello-broken@6.6 install", "failed hello-broken@6.6 install",
		},
		"spack-1.3/install-verbose.log": {
			"phase hello-broken@6.6 fetching from build cache", "phase hello-broken@6.6 no binary available", "phase hello-broken@6.6 staging",
			"phase hello-broken@6.6 configure", "phase hello-broken@6.6 install", "failed hello-broken@6.6 install",
		},
		"spack-0.24/install-failed.log": {
			"phase hello-broken@6.6 starting", "phase hello-broken@6.6 no binary available",
			"phase hello-broken@6.6 configure", "phase hello-broken@6.6 install", "failed hello-broken@6.6 install",
		},
		"spack-0.24/install-verbose.log": {
			"phase hello-broken@6.6 starting", "phase hello-broken@6.6 no binary available",
			"phase hello-broken@6.6 configure", "phase hello-broken@6.6 install", "failed hello-broken@6.6 install",
		},
	} {
		list, failures := events(t, readFile(t, "testdata", file), nil)
		got := of("hello-broken", tellAll(list))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if len(failures) != 1 {
			t.Errorf("%s: %d failures", file, len(failures))
			continue
		}
		f := failures[0]
		if f.Name != "hello-broken" || f.Version != "6.6" || len(f.Hash) != 32 || f.Phase != "install" {
			t.Errorf("%s: %+v", file, f)
		}
		if !strings.Contains(f.Log, "spack-stage-hello-broken-6.6-"+f.Hash) || !strings.Contains(strings.Join(f.Lines, "\n"), "hello.c:3:1: error: nothing works") {
			t.Errorf("%s: %+v", file, f)
		}
	}
}

func TestOutputSkipped(t *testing.T) {
	list, _ := events(t, readFile(t, "testdata", "spack-0.24", "install-failed.log"), nil)
	lines := tellAll(list)
	if got := of("hello-needs-broken", lines); !reflect.DeepEqual(got, []string{"skipped hello-needs-broken@1.0"}) {
		t.Errorf("got %q", got)
	}
	if got := of("gcc-runtime", lines); !reflect.DeepEqual(got, []string{"installed gcc-runtime@12.2.0, already"}) {
		t.Errorf("got %q", got)
	}
}

func TestOutputLines(t *testing.T) {
	hash := strings.Repeat("a", 32)
	for text, want := range map[string]spack.Event{
		"[+] abcdefg pdi@git.main=1.0 /opt/a (b) (1m05s)\n": {
			Kind: spack.EventInstalled, Name: "pdi", Version: "git.main=1.0", Hash: "abcdefg", Prefix: "/opt/a (b)", Time: 65 * time.Second,
		},
		"[ ] abcdefg pdi@1 build (1h02m)": {
			Kind: spack.EventPhase, Name: "pdi", Version: "1", Hash: "abcdefg", Phase: "build", Time: 62 * time.Minute,
		},
		"\x1b[31m[x]\x1b[0m \x1b[0;90mabcdefg\x1b[0m pdi\x1b[0;36m@1\x1b[0m failed\r\n": {
			Kind: spack.EventFailed, Name: "pdi", Version: "1", Hash: "abcdefg",
		},
		"==> Warning: beware\n": {Kind: spack.EventWarning, Text: "beware"},
		"==> Error: concretization failed\n\n  1. no such package\n\n": {
			Kind: spack.EventError, Text: "concretization failed\n\n  1. no such package",
		},
		"==> Error: a\r\n  b\r\n\r\n  c\r\n": {Kind: spack.EventError, Text: "a\n  b\n\n  c"},
		"==> [1/2] Pushed a@1/abcdefg: sha256:00 (0.01s, 3.02 MB/s)\n": {
			Kind: spack.EventPushed, Name: "a", Version: "1", Hash: "abcdefg", Number: 1, Total: 2,
		},
		"==> Installing py-x-2024.1-" + hash + "\n": {Kind: spack.EventPhase, Name: "py-x", Version: "2024.1", Hash: hash, Phase: "starting"},
		"==> Installing pdi-develop-" + hash + " [3/7]\n": {
			Kind: spack.EventPhase, Name: "pdi", Version: "develop", Hash: hash, Phase: "starting", Number: 3, Total: 7,
		},
	} {
		list, _ := events(t, []byte(text), nil)
		if len(list) != 1 || list[0] != want {
			t.Errorf("%q:\ngot  %+v\nwant %+v", text, list, want)
		}
	}
	for _, text := range []string{
		"", "\n", "[ 10%] Building CXX object", "[ ] abcdefg", "[ ] abcdefg x", "[?] abcdefg a@1 b", "[+] ", "[+] /usr", "==> ", "==> Installing x [1/2]",
		"==> Fetching https://example.org", "-- lines 1 to 2 --", "[ ] ABCDEFG a@1 b", "[+] abcdefg a/b@1 /x", "==> [1/2] Pushed x",
	} {
		if list, failures := events(t, []byte(text), nil); len(list)+len(failures) > 0 {
			t.Errorf("%q says %+v %+v", text, list, failures)
		}
	}
}

// The logs of several failures are each given to their package.
func TestOutputTwoFailures(t *testing.T) {
	hashes := []string{strings.Repeat("a", 32), strings.Repeat("b", 32)}
	status := "[ ] aaaaaaa a@1 build (0s)\n[x] aaaaaaa a@1 failed: /a.log (1s)\n[ ] bbbbbbb b@1 configure\n[x] bbbbbbb b@1 failed: /b.log (1s)\n"
	end := "==> Error: The following packages failed to install:\na@1/" + hashes[0] + ": /a.log\nb@1/" + hashes[1] + ": /b.log\n"
	first := "-- lines 1 to 2 --\n> error: a\n-- lines 5 to 5 --\n  more\n"
	for name, c := range map[string]struct {
		summaries string
		want      [2][]string
	}{
		"both":   {first + "-- lines 1 to 1 --\n> error: b\n", [2][]string{{"> error: a", "  more"}, {"> error: b"}}},
		"one":    {"-- lines 7 to 8 --\n  ==> b: Executing phase: 'build'\n> error\n", [2][]string{nil, {"  ==> b: Executing phase: 'build'", "> error"}}},
		"none":   {"", [2][]string{}},
		"unsure": {"-- lines 1 to 1 --\n> error\n", [2][]string{}},
	} {
		_, failures := events(t, []byte(status+c.summaries+end), nil)
		want := []spack.Failure{
			{Name: "a", Version: "1", Hash: hashes[0], Phase: "build", Log: "/a.log", Lines: c.want[0]},
			{Name: "b", Version: "1", Hash: hashes[1], Phase: "configure", Log: "/b.log", Lines: c.want[1]},
		}
		if !reflect.DeepEqual(failures, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, failures, want)
		}
	}
}

// Output of a program gone wild takes neither memory nor time.
func TestOutputTooMuch(t *testing.T) {
	start := time.Now()
	o := &spack.Output{}
	long := []byte(strings.Repeat("x", 1<<20))
	for range 200 {
		if n, err := o.Write(long); n != len(long) || err != nil {
			t.Fatal(n, err)
		}
	}
	for i := range 50_000 {
		fmt.Fprintf(o, "\n[x] %07d a@1 failed: /log\n-- lines 1 to 1 --\n> x\n==> Error: b", i)
	}
	if err := o.Close(); err != nil || len(o.Failures()) > 1000 || time.Since(start) > 100*time.Second {
		t.Errorf("%d failures, %v, %v", len(o.Failures()), err, time.Since(start))
	}
}

func TestSampleOutput(t *testing.T) {
	l := lock(t, samples(t), "pdi", "spack.lock")
	list, failures := events(t, readFile(t, samples(t), "pdi", "install.log"), l.Specs)
	got := map[spack.EventKind]int{}
	for _, e := range list {
		got[e.Kind]++
	}
	if got[spack.EventInstalled] != 9 || got[spack.EventExternal] != 8 || len(failures) > 0 || got[spack.EventError] > 0 {
		t.Errorf("got %v, %v", got, failures)
	}
	_, failures = events(t, readFile(t, samples(t), "install-with-failure.log"), nil)
	if len(failures) != 1 || failures[0].Name != "fftw" || failures[0].Phase != "staging" || len(failures[0].Hash) != 32 || len(failures[0].Lines) != 14 {
		t.Errorf("got %+v", failures)
	}
}
