package inspect

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A memoryImage is an image of archives in memory.
type memoryImage struct {
	name   string
	layers [][]byte
	config v1.Image
}

func (m *memoryImage) Name() string     { return m.name }
func (m *memoryImage) Config() v1.Image { return m.config }

func (m *memoryImage) Manifest() (v1.Manifest, digest.Digest) {
	man := v1.Manifest{Config: v1.Descriptor{Digest: digest.FromString(m.name)}}
	for _, l := range m.layers {
		man.Layers = append(man.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.FromBytes(l), Size: int64(len(l))})
	}
	return man, digest.FromString("manifest of " + m.name)
}

func (m *memoryImage) Layer(_ context.Context, n int) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.layers[n])), nil
}

// A file of a layer: a name that ends in / is a directory, content that begins
// with -> a symbolic link and with => a hard link.
type file struct {
	name, content string
	mode          int64
}

func layerOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		hdr := &tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.content))}
		if hdr.Mode == 0 {
			hdr.Mode = 0o644
		}
		switch {
		case strings.HasSuffix(f.name, "/"):
			hdr.Typeflag, hdr.Size = tar.TypeDir, 0
		case strings.HasPrefix(f.content, "->"):
			hdr.Typeflag, hdr.Size, hdr.Linkname = tar.TypeSymlink, 0, f.content[2:]
		case strings.HasPrefix(f.content, "=>"):
			hdr.Typeflag, hdr.Size, hdr.Linkname = tar.TypeLink, 0, f.content[2:]
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if hdr.Size > 0 {
			if _, err := io.WriteString(w, f.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func imageOf(t *testing.T, layers ...[]file) *memoryImage {
	t.Helper()
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := &memoryImage{name: "localhost/test:latest", config: v1.Image{Created: &created, Platform: v1.Platform{OS: "linux", Architecture: "amd64"}}}
	for _, files := range layers {
		m.layers = append(m.layers, layerOf(t, files...))
		m.config.RootFS.DiffIDs = append(m.config.RootFS.DiffIDs, digest.FromBytes(m.layers[len(m.layers)-1]))
	}
	return m
}

func read(t *testing.T, m *memoryImage) *Image {
	t.Helper()
	img, err := Read(t.Context(), m, Options{Secrets: KnownSecrets()})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func kilo(n int, c string) string { return strings.Repeat(c, n*1000) }

// Bytes that later layers hide are counted once, by what hid them.
func TestWaste(t *testing.T) {
	img := read(t, imageOf(t,
		[]file{{"a/", "", 0o755}, {"a/replaced", kilo(5, "x"), 0}, {"a/deleted", kilo(7, "d"), 0}, {"a/stays", kilo(9, "s"), 0}, {"b/", "", 0o755}, {"b/one", kilo(11, "1"), 0}, {"b/two", kilo(13, "2"), 0}},
		[]file{{"a/replaced", kilo(6, "y"), 0}, {"a/.wh.deleted", "", 0}, {"b/.wh..wh..opq", "", 0}, {"b/two", kilo(13, "2"), 0o755}},
		[]file{{"c/copy", kilo(9, "s"), 0}},
	))
	w := img.Waste(0)
	if w.Replaced != 5000 || w.Removed != 7000+11000+13000 || w.Duplicate != 9000 {
		t.Errorf("replaced %d, removed %d, duplicate %d", w.Replaced, w.Removed, w.Duplicate)
	}
	if want := int64(5000 + 7000 + 11000 + 13000); img.Layers[0].Wasted != want || img.Layers[1].Wasted != 0 {
		t.Errorf("layers waste %d and %d, want %d and 0", img.Layers[0].Wasted, img.Layers[1].Wasted, want)
	}
	if l := img.Layers[1]; l.Added != 0 || l.Changed != 2 || l.Removed != 2 {
		t.Errorf("layer 2: %d added, %d changed, %d removed; want 0, 2, 2", l.Added, l.Changed, l.Removed)
	}
	for _, f := range w.Files {
		if f.Path == "/b/two" && !f.Same {
			t.Error("/b/two has the same content again, and that is not said")
		}
	}
	want := []Change{{Gone, "/a/deleted", "file", 7000}, {Changed, "/a/replaced", "file", 6000}, {Gone, "/b/one", "file", 11000}, {Changed, "/b/two", "file", 13000}}
	if got := img.Changes(2, 0); !slices.Equal(got, want) {
		t.Errorf("changes of layer 2:\n%v, want\n%v", got, want)
	}
}

// A file with several names is wasted when the last one goes.
func TestWasteOfHardLinks(t *testing.T) {
	base := []file{{"one", kilo(5, "x"), 0}, {"two", "=>one", 0}}
	if w := read(t, imageOf(t, base, []file{{".wh.one", "", 0}})).Waste(0); w.Hidden != 0 {
		t.Errorf("one name is left, and %d bytes are wasted", w.Hidden)
	}
	if w := read(t, imageOf(t, base, []file{{".wh.one", "", 0}}, []file{{"two", "new", 0}})).Waste(0); w.Hidden != 5000 {
		t.Errorf("no name is left, and %d bytes are wasted", w.Hidden)
	}
	if img := read(t, imageOf(t, base)); len(img.Waste(0).Files) != 0 {
		t.Error("two names of one file are called duplicates")
	}
}

// A directory that becomes a file takes what was in it along.
func TestDirectoryBecomesFile(t *testing.T) {
	img := read(t, imageOf(t, []file{{"d/", "", 0o755}, {"d/x", kilo(3, "x"), 0}}, []file{{"d", "->/elsewhere", 0}}))
	if w := img.Waste(0); w.Hidden != 3000 {
		t.Errorf("%d bytes wasted", w.Hidden)
	}
	if l := img.Layers[1]; l.Changed != 1 || l.Removed != 1 {
		t.Errorf("%d changed, %d removed", l.Changed, l.Removed)
	}
}

// No name leads out of the image, and none breaks a line of the report.
func TestHostileNames(t *testing.T) {
	hostile := "evil\x1b[2J\nname<script>alert(1)</script>"
	img := read(t, imageOf(t, []file{{"../../../etc/passwd", "x", 0}, {"/abs//./x/../y", "y", 0}, {hostile, kilo(9, "h"), 0}, {".wh.", "", 0}, {".wh...", "", 0}, {strings.Repeat("d/", 4000) + "deep", "x", 0}}))
	var paths []string
	img.Each(func(f File) { paths = append(paths, f.Path) })
	for _, want := range []string{"/etc/passwd", "/abs/y", "/" + cleanPath(hostile)[1:]} {
		if !slices.Contains(paths, want) {
			t.Errorf("%q is missing", want)
		}
	}
	var out bytes.Buffer
	if err := WriteText(&out, img.Report(ReportOptions{})); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), `evil\x1b[2J\nname`) {
		t.Errorf("the name is not quoted:\n%s", out.String())
	}
}

func TestDamagedLayers(t *testing.T) {
	good := layerOf(t, file{"x", kilo(3, "x"), 0})
	for name, data := range map[string][]byte{
		"cut off":        good[:1000],
		"not an archive": []byte(strings.Repeat("nonsense", 200)),
		"long name":      layerOf(t, file{strings.Repeat("n/", 10000), "", 0}),
	} {
		m := &memoryImage{name: "damaged", layers: [][]byte{data}}
		if _, err := Read(t.Context(), m, Options{}); err == nil || !strings.Contains(err.Error(), "layer 1 of damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a later layer hides is in the image all the same.
func TestSecretsAreFoundInHiddenFiles(t *testing.T) {
	token := "ghp_" + strings.Repeat("a1B2", 9)
	// The token lies across the border of two blocks.
	img := read(t, imageOf(t, []file{{"root/.netrc", strings.Repeat("x", 256<<10-9) + " " + token, 0}}, []file{{"root/.wh..netrc", "", 0}}))
	if want := []Finding{{"/root/.netrc", 1, "GitHub token"}}; !slices.Equal(img.Found, want) {
		t.Errorf("found %v, want %v", img.Found, want)
	}
}

// Libraries of cryptography have keys for testing themselves: no finding.
func TestKeysInPrograms(t *testing.T) {
	key := "-----BEGIN RSA PRIVATE KEY-----\n" + strings.Repeat("MIIEpAIBAAKCAQEA", 8)
	img := read(t, imageOf(t, []file{{"lib/libgnutls.so", "\x7fELF" + key, 0}, {"root/key.pem", key, 0}}))
	if want := []Finding{{"/root/key.pem", 1, "private key"}}; !slices.Equal(img.Found, want) {
		t.Errorf("found %v, want %v", img.Found, want)
	}
}

// The history of a base image that tells less than it has layers is about the
// upper ones.
func TestStepsOfLayers(t *testing.T) {
	m := imageOf(t, []file{{"a", "a", 0}}, []file{{"b", "b", 0}}, []file{{"c", "c", 0}})
	m.config.History = []v1.History{{CreatedBy: "ENV x", EmptyLayer: true}, {CreatedBy: "/bin/sh -c make"}, {CreatedBy: "pdibuild: copy b"}}
	img := read(t, m)
	for i, want := range []string{"unknown", "/bin/sh -c make", "copy b"} {
		if img.Layers[i].Step != want {
			t.Errorf("layer %d: %q, want %q", i+1, img.Layers[i].Step, want)
		}
	}
	if img.Layers[2].By != "pdibuild" || img.Layers[1].By != "" {
		t.Error("who made the layers is not told apart")
	}
}

func TestCompare(t *testing.T) {
	a := imageOf(t, []file{{"base", "b", 0}}, []file{{"x", "1", 0}, {"mode", "m", 0o644}, {"gone", "g", 0}})
	b := imageOf(t, []file{{"base", "b", 0}}, []file{{"x", "2", 0}, {"mode", "m", 0o4755}, {"new", "nn", 0}})
	b.config.Config.Env = []string{"A=b"}
	d := Compare(read(t, a), read(t, b), 0)
	if d.Same || d.Added != 1 || d.Changed != 2 || d.Removed != 1 || d.SharedLayers != 1 {
		t.Errorf("%+v", d)
	}
	if want := []Difference{{"env A", "", "b"}}; !slices.Equal(d.Config, want) {
		t.Errorf("configuration: %v", d.Config)
	}
	if !Compare(read(t, a), read(t, a), 0).Same {
		t.Error("an image differs from itself")
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.pem", "/etc/ssl/a.pem", true},
		{"/root/.ssh/**", "/root/.ssh/id_rsa", true},
		{"/root/.ssh/**", "/root/.ssh", false},
		{"/**/cache/*", "/var/cache/apt", true},
		{"/**/cache/*", "/var/cache/apt/x", false},
		{"/tmp", "/var/tmp", false},
	} {
		if got := matches(c.pattern, c.path); got != c.want {
			t.Errorf("%s fits %s: %v", c.pattern, c.path, got)
		}
	}
}
