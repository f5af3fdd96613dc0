package imagestore

import (
	"os"
	"path/filepath"
	"testing"
)

// A layer as the overlay driver leaves it when it is killed: whatever is
// missing, note and short name agree afterwards, and no other name is lost.
func TestShortNamesAfterAKill(t *testing.T) {
	for what, c := range map[string]struct {
		note, link string // "" for none, "empty" for an empty note
		want       string // the note and the name in the end
	}{
		"nothing":        {"", "", ""},
		"only the link":  {"", "SHORT", "SHORT"},
		"an empty note":  {"empty", "SHORT", "SHORT"},
		"a note alone":   {"SHORT", "", "SHORT"},
		"only emptiness": {"empty", "", ""},
		"all":            {"SHORT", "SHORT", "SHORT"},
	} {
		t.Run(what, func(t *testing.T) {
			home := t.TempDir()
			makeOverlayLayer(t, home, "sound", "SOUND", "SOUND")
			makeOverlayLayer(t, home, "killed", c.note, c.link)
			for _, repair := range shortNameFaults(home) {
				repair()
			}
			if again := shortNameFaults(home); len(again) > 0 {
				t.Errorf("%d faults stay", len(again))
			}
			note, _ := os.ReadFile(filepath.Join(home, "killed", "link"))
			if string(note) != c.want {
				t.Errorf("the note says %q, not %q", note, c.want)
			}
			if _, err := os.Stat(filepath.Join(home, "killed", "link")); err == nil && len(note) == 0 {
				t.Error("the note is empty: to remove this layer would remove all short names")
			}
			if c.want != "" {
				if target, err := os.Readlink(filepath.Join(home, "l", c.want)); err != nil || target != "../killed/diff" {
					t.Errorf("the short name leads to %q: %v", target, err)
				}
			}
			if _, err := os.Readlink(filepath.Join(home, "l", "SOUND")); err != nil {
				t.Error("another layer's name is lost:", err)
			}
		})
	}
}

// Names of layers that are gone go, too; all of them come back when the
// driver has removed the directory.
func TestShortNamesOfLayersThatAreGone(t *testing.T) {
	home := t.TempDir()
	makeOverlayLayer(t, home, "gone", "GONE", "GONE")
	makeOverlayLayer(t, home, "first", "FIRST", "FIRST")
	makeOverlayLayer(t, home, "second", "SECOND", "SECOND")
	if err := os.RemoveAll(filepath.Join(home, "gone")); err != nil {
		t.Fatal(err)
	}
	for _, repair := range shortNameFaults(home) {
		repair()
	}
	if _, err := os.Lstat(filepath.Join(home, "l", "GONE")); err == nil {
		t.Error("the name of a layer that is gone stays")
	}
	if err := os.RemoveAll(filepath.Join(home, "l")); err != nil {
		t.Fatal(err)
	}
	for _, repair := range shortNameFaults(home) {
		repair()
	}
	for _, name := range []string{"FIRST", "SECOND"} {
		if _, err := os.Stat(filepath.Join(home, "l", name)); err != nil {
			t.Error(err)
		}
	}
}

func makeOverlayLayer(t *testing.T, home, id, note, link string) {
	t.Helper()
	layer, links := filepath.Join(home, id), filepath.Join(home, "l")
	for _, dir := range []string{filepath.Join(layer, "diff"), links} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if link != "" {
		if err := os.Symlink(filepath.Join("..", id, "diff"), filepath.Join(links, link)); err != nil {
			t.Fatal(err)
		}
	}
	switch note {
	case "":
	case "empty":
		note = ""
		fallthrough
	default:
		if err := os.WriteFile(filepath.Join(layer, "link"), []byte(note), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
