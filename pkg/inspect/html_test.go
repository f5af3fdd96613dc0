package inspect

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browser is a Chromium; without one the page is not tested.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	t.Skip("SKIPPED: no chromium on this machine, so nobody has looked at the HTML page (Debian: chromium)")
	return ""
}

// render opens a page and returns its document after its script has run, and
// what the browser complained about.
func render(t *testing.T, file string, args ...string) (dom, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	all := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
		"--user-data-dir=" + t.TempDir(), "--virtual-time-budget=5000", "--dump-dom",
	}, args...)
	cmd := exec.CommandContext(ctx, browser(t), append(all, "file://"+file)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String(), errs.String()
}

func pageOf(t *testing.T, img *Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.html")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteHTML(f, img, ReportOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

const hostileName = `</script><img src=x onerror="document.documentElement.dataset.owned='yes'">`

// A real browser draws the page, with the treemap, and no name of a file runs.
func TestPageInBrowser(t *testing.T) {
	m := imageOf(t, spackFiles(), []file{{hostileName, kilo(30, "h"), 0}, {"/opt/software/hdf5-1.14-h/lib/libhdf5.so", kilo(20, "n"), 0}})
	m.config.Config.Labels = map[string]string{"evil": hostileName}
	dom, log := render(t, pageOf(t, read(t, m)))
	for _, want := range []string{`data-drawn="yes"`, `class="tile`, "libhdf5.so", "hdf5", "nobody sees"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %q; the browser said:\n%s", want, log)
		}
	}
	if strings.Contains(dom, `data-owned`) {
		t.Error("the name of a file ran as script")
	}
	if strings.Contains(log, "Uncaught") {
		t.Errorf("the script failed:\n%s", log)
	}
}

// The page asks for nothing outside of itself.
func TestPageIsSelfContained(t *testing.T) {
	data, err := os.ReadFile(pageOf(t, read(t, imageOf(t, spackFiles(), []file{{hostileName, "x", 0}}))))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("<img")) || bytes.Contains(data, []byte("http://")) {
		t.Error("the page has markup of the image, or an address")
	}
	if n := bytes.Count(data, []byte("</script>")); n != 2 {
		t.Errorf("%d ends of scripts, want 2", n)
	}
}
