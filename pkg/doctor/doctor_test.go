package doctor

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// only returns the one finding of a check.
func (x *examination) only(t *testing.T, check string) Finding {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(x.findings), func(f Finding) bool { return f.Check != check })
	if len(found) != 1 {
		t.Fatalf("%d findings of %s: %+v", len(found), check, x.findings)
	}
	return found[0]
}

func TestRegistries(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer good.Close()
	odd := httptest.NewServer(http.NotFoundHandler())
	defer odd.Close()
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-3*time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer late.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()

	host := func(server *httptest.Server) string { return server.Listener.Addr().String() }
	x := &examination{opt: Options{Registries: []string{good.URL, odd.URL, late.URL, gone.URL, host(secure), host(good)}}}
	x.registries(t.Context())
	for server, want := range map[string]struct {
		status Status
		found  string
	}{
		good.URL:     {OK, "answers"},
		odd.URL:      {Warning, "404"},
		late.URL:     {OK, "answers"},
		gone.URL:     {Warning, "connection refused"},
		host(secure): {Warning, "certificate"},
		host(good):   {Warning, "HTTP response to HTTPS client"},
	} {
		if f := x.only(t, "registry "+server); f.Status != want.status || !strings.Contains(f.Found, want.found) {
			t.Errorf("got %+v, want %+v", f, want)
		}
	}
	if f := x.only(t, "clock"); f.Status != Warning || !strings.Contains(f.Found, "3h0m") || !strings.Contains(f.Found, "ahead of that of "+late.URL) {
		t.Errorf("a clock that is three hours wrong: %+v", f)
	}
}

func TestClock(t *testing.T) {
	for text, want := range map[string]Status{"1970-01-01T00:10:00Z": Warning, "2026-11-01T00:00:00Z": OK, "2106-01-01T00:00:00Z": Warning} {
		now, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		x := &examination{}
		x.clock(now)
		if f := x.only(t, "clock"); f.Status != want {
			t.Errorf("%s: %+v, want %s", text, f, want)
		}
	}
}

func TestKernelVersion(t *testing.T) {
	for release, want := range map[string][2]int{"6.1.0-18-amd64": {6, 1}, "5.4.0": {5, 4}, "4.18.0-553.el8.x86_64": {4, 18}} {
		major, minor, ok := kernelVersion(release)
		if !ok || major != want[0] || minor != want[1] {
			t.Errorf("%s: %d.%d %v", release, major, minor, ok)
		}
	}
	if _, _, ok := kernelVersion("unknown"); ok {
		t.Error("a release without a number was understood")
	}
}

func TestAvailableMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemTotal:       100 kB\nMemAvailable:   2048 kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, ok := availableMemory(file); !ok || got != 2<<20 {
		t.Errorf("got %d %v", got, ok)
	}
}

// A network's file system cannot be had in a test everywhere; its number can.
func TestNetworkFileSystems(t *testing.T) {
	for magic, want := range map[int64]struct {
		status Status
		found  string
	}{
		0x6969: {Warning, "nfs"}, 0xff534d42: {Warning, "cifs"}, 0x0bd00bd0: {Warning, "lustre"},
		0xef53: {OK, "ext4"}, 0x58465342: {OK, "xfs"}, 0x794c7630: {Note, "overlay"}, 0x7: {OK, "kind 0x7"},
	} {
		x := &examination{}
		x.fileSystemOf(magic, "/store")
		if f := x.only(t, "file-system"); f.Status != want.status || !strings.Contains(f.Found, want.found) {
			t.Errorf("%#x: %+v, want %+v", magic, f, want)
		}
	}
}

// The tightest of the groups around a process counts.
func TestGroupMemory(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "self")
	write := func(name, content string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "0::/job/step\n")
	if _, limited := groupMemory(self, dir); limited {
		t.Error("there is a limit where no group is")
	}
	write("job/memory.max", "536870912\n")
	write("job/memory.current", "36870912\n")
	write("job/step/memory.max", "max\n")
	write("job/step/memory.current", "1\n")
	if left, limited := groupMemory(self, dir); left != 500_000_000 || !limited {
		t.Errorf("%d bytes are left (%v)", left, limited)
	}
	write("job/memory.current", "536880000\n") // more than allowed, for a moment
	if left, _ := groupMemory(self, dir); left != 0 {
		t.Errorf("%d bytes are left", left)
	}
}

// An error of the builder is said in the words that it has itself.
func TestFailedKeepsTheBuildersWords(t *testing.T) {
	x := &examination{}
	x.failed("store", &builder.HostError{Op: "open", Err: errors.New("full"), Topic: string(hosthelp.Disk)}, hosthelp.Store)
	if f := x.only(t, "store"); f.User != hosthelp.For(hosthelp.Disk).User || f.Status != Error {
		t.Errorf("got %+v", f)
	}
}

func TestWorst(t *testing.T) {
	if got := Worst([]Finding{{Status: Note}, {Status: Error}, {Status: Warning}}); got != Error {
		t.Errorf("got %s", got)
	}
	if got := Worst(nil); got != OK {
		t.Errorf("got %s", got)
	}
}

// The end of docs/doctor.md is the table of texts. UPDATE_DOCS=1 writes it.
func TestTextsAreDocumented(t *testing.T) {
	const path, marker = "../../docs/doctor.md", "UPDATE_DOCS=1 go test ./pkg/doctor -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, old, ok := strings.Cut(string(doc), marker)
	if !ok {
		t.Fatalf("%s has lost the line %q", path, marker)
	}
	var b strings.Builder
	for _, topic := range hosthelp.Topics() {
		h := hosthelp.For(topic)
		b.WriteString("\n**" + string(topic) + "**: " + h.Means + ".\n\n* You: " + h.User + ".\n")
		if h.Admin != "" {
			b.WriteString("* An administrator can " + h.Admin + ".\n")
		}
	}
	if b.String() == old {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is not what the program says; run UPDATE_DOCS=1 go test ./pkg/doctor", path)
	}
	if err := os.WriteFile(path, []byte(written+marker+b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
