package main

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/pkg/inspect"
)

// A smallImage has two layers: the second one changes, adds and removes.
type smallImage struct{}

func (smallImage) Name() string { return "localhost/small:latest" }
func (smallImage) Close() error { return nil }
func (smallImage) Config() v1.Image {
	return v1.Image{History: []v1.History{{CreatedBy: "pdibuild: from base"}, {CreatedBy: "pdibuild: run make install"}}}
}

func (smallImage) layers() [][]string {
	return [][]string{{"etc/keep", "etc/change", "etc/drop", "usr/bin/tool\x1b[31m"}, {"etc/change", "etc/.wh.drop", "opt/new"}}
}

func (s smallImage) Manifest() (v1.Manifest, digest.Digest) {
	return v1.Manifest{Layers: make([]v1.Descriptor, len(s.layers()))}, ""
}

func (s smallImage) Layer(_ context.Context, n int) (io.ReadCloser, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range s.layers()[n] {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(&out), w.Close()
}

func screenOf(t *testing.T) *treeModel {
	t.Helper()
	img, err := inspect.Read(t.Context(), smallImage{}, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := newTreeModel(img)
	m.Update(tea.WindowSizeMsg{Width: 120, Height: 30})
	return m
}

func press(m *treeModel, keys ...tea.KeyPressMsg) {
	for _, k := range keys {
		m.Update(k)
	}
}

func letters(text string) (keys []tea.KeyPressMsg) {
	for _, r := range text {
		keys = append(keys, tea.KeyPressMsg{Code: r, Text: string(r)})
	}
	return keys
}

// names are the files on the screen, with the sign of their change.
func names(m *treeModel) string {
	var list []string
	for _, r := range m.rows {
		list = append(list, strings.TrimSpace(map[inspect.ChangeKind]string{inspect.Added: "+", inspect.Changed: "~", inspect.Gone: "-"}[r.Change]+r.Name))
	}
	return strings.Join(list, " ")
}

func TestTreeShowsWhatALayerDoes(t *testing.T) {
	m := screenOf(t)
	if want := `~etc ~change -drop keep +opt +new usr bin "tool\x1b[31m"`; names(m) != want {
		t.Errorf("after the last layer: %s\nwant %s", names(m), want)
	}
	press(m, tea.KeyPressMsg{Code: tea.KeyUp}) // the layers have the keys at first
	if want := `+etc +change +drop +keep +usr +bin +"tool\x1b[31m"`; names(m) != want {
		t.Errorf("after the first layer: %s\nwant %s", names(m), want)
	}
}

func TestTreeFilters(t *testing.T) {
	for _, c := range []struct {
		keys []tea.KeyPressMsg
		want string
	}{
		{[]tea.KeyPressMsg{{Code: 'u', Mod: tea.ModCtrl}}, "~etc ~change -drop +opt +new"},
		{[]tea.KeyPressMsg{{Code: 'u', Mod: tea.ModCtrl}, {Code: 'a', Mod: tea.ModCtrl}, {Code: 'm', Mod: tea.ModCtrl}}, "~etc -drop"},
		{[]tea.KeyPressMsg{{Code: 'r', Mod: tea.ModCtrl}, {Code: 'u', Mod: tea.ModCtrl}, {Code: 'a', Mod: tea.ModCtrl}}, "~etc ~change"},
		{append(letters("/NEW$"), tea.KeyPressMsg{Code: tea.KeyEnter}), "+opt +new"},
		{append(letters("/["), tea.KeyPressMsg{Code: tea.KeyEnter}), `usr bin "tool\x1b[31m"`},
		{append(letters("/new"), tea.KeyPressMsg{Code: tea.KeyEscape}), `~etc ~change -drop keep +opt +new usr bin "tool\x1b[31m"`},
		{[]tea.KeyPressMsg{{Code: tea.KeyTab}, {Code: tea.KeySpace, Text: " "}}, `~etc +opt +new usr bin "tool\x1b[31m"`},
		{[]tea.KeyPressMsg{{Code: tea.KeyTab}, {Code: tea.KeySpace, Mod: tea.ModCtrl}}, "~etc +opt usr"},
	} {
		m := screenOf(t)
		press(m, c.keys...)
		if got := names(m); got != c.want {
			t.Errorf("%v: %s\nwant %s", c.keys, got, c.want)
		}
	}
}

// Whatever the size of the screen, nothing is wider or higher, and no name
// of a file reaches the terminal as a command.
func TestTreeFitsTheScreen(t *testing.T) {
	for _, size := range []tea.WindowSizeMsg{{Width: 120, Height: 30}, {Width: 80, Height: 24}, {Width: 40, Height: 12}, {Width: 10, Height: 5}} {
		m := screenOf(t)
		m.Update(size)
		press(m, letters("jjjj")...)
		lines := strings.Split(m.text(), "\n")
		if len(lines) > size.Height && size.Height >= 12 {
			t.Errorf("%v: %d lines:\n%s", size, len(lines), m.text())
		}
		if strings.Contains(m.text(), "\x1b[31m") {
			t.Errorf("%v: a name is a command to the terminal", size)
		}
		for _, l := range lines {
			if w := len([]rune(colors.Replace(l))); w > size.Width && size.Width >= 40 {
				t.Errorf("%v: a line of %d columns: %q", size, w, l)
			}
		}
	}
}

func TestTreeQuits(t *testing.T) {
	for _, k := range []tea.KeyPressMsg{letters("q")[0], {Code: 'c', Mod: tea.ModCtrl}, {Code: tea.KeyEscape}} {
		if _, cmd := screenOf(t).Update(k); cmd == nil {
			t.Errorf("%v does not quit", k)
		}
	}
}
