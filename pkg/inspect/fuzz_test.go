package inspect

import (
	"errors"
	"io"
	"testing"
)

// FuzzRead checks that an image of any two archives is refused, or has sums
// that agree with each other, and can be shown in every form.
func FuzzRead(f *testing.F) {
	lower := layerOf(f, file{name: "etc/"}, file{name: "etc/os-release", content: "ID=debian\n"}, file{name: "a", content: "abc"}, file{name: "b", content: "=>a"})
	upper := layerOf(f, file{name: "a", content: "->../../etc"}, file{name: ".wh.b"}, file{name: "etc/.wh..wh..opq"}, file{name: "../x\n", content: "abc"})
	status := layerOf(f, file{name: "var/lib/dpkg/status", content: "Package: a\nVersion: 1\nStatus: install ok installed\n"},
		file{name: "opt/a/.spack/spec.json", content: `{"spec":{"nodes":[{"name":"a","version":"1","hash":"abcdefghijklmnopqrstuvwxyz234567"}]}}`})
	f.Add(lower, upper)
	f.Add(upper, lower)
	f.Add(status, []byte{})
	patterns := KnownSecrets()[:1]
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		img, err := Read(t.Context(), &memoryImage{name: "fuzz", layers: [][]byte{lower, upper}}, Options{Secrets: patterns})
		if err != nil {
			return
		}
		for _, l := range img.Layers {
			if l.Content < 0 || l.Wasted < 0 || l.Wasted > l.Content || l.Added < 0 || l.Removed < 0 {
				t.Errorf("layer %d has impossible sums: %+v", l.Number, l)
			}
		}
		for _, write := range []func(io.Writer) error{
			func(w io.Writer) error { return WriteText(w, img.Report(ReportOptions{})) },
			func(w io.Writer) error { return WriteHTML(w, img, ReportOptions{}) },
			func(w io.Writer) error { return WriteSPDX(w, img) },
			func(w io.Writer) error { return WriteCycloneDX(w, img) },
		} {
			if err := write(io.Discard); err != nil {
				t.Error(err)
			}
		}
		if d := Compare(img, img, 10); len(d.Files) > 0 {
			t.Errorf("an image differs from itself: %+v", d.Files)
		}
	})
}

// FuzzLimits checks that a file of limits is understood, or refused with a
// place.
func FuzzLimits(f *testing.F) {
	f.Add([]byte("highest_size: 200 MB\nhighest_waste_percent: 5\nforbidden_paths: [/root/**]\nsetuid: false\n"))
	f.Add([]byte("secret_patterns: {a: '('}\nhighest_size: 1e99 PB\nhighest_size: -1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits, err := ParseLimits("limits.yaml", data)
		var wrong *LimitsError
		switch {
		case err == nil && limits == nil:
			t.Error("no limits and no error")
		case err != nil && (!errors.As(err, &wrong) || wrong.Line < 1 || wrong.Column < 1):
			t.Errorf("no place: %#v", err)
		}
	})
}
