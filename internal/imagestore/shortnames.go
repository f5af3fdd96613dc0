package imagestore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The overlay driver gives each layer a short name, a symbolic link in the
// directory l to the layer's files, and notes the name in the layer's file
// "link". It makes the link, then an empty file, then fills the file. A build
// that is killed in between leaves one without the other, and when the driver
// removes a layer whose file is empty, it removes the directory l with all
// names: see removeCommon in the storage library's drivers/overlay.

// shortNameFaults compares the short names of the overlay driver in home with
// its layers, and returns what puts them right. The caller holds the lock of
// the layers when he calls these.
func shortNameFaults(home string) (repairs []func()) {
	names := map[string]string{} // by layer
	links := filepath.Join(home, "l")
	entries, _ := os.ReadDir(links) // other drivers have no such directory
	for _, e := range entries {
		link := filepath.Join(links, e.Name())
		target, err := os.Readlink(link) // ../ID/diff
		if err != nil {
			continue
		}
		id := filepath.Base(filepath.Dir(target))
		names[id] = e.Name()
		// The layer may be without its files for a moment, and keeps its name.
		if _, err := os.Lstat(filepath.Join(home, id)); errors.Is(err, fs.ErrNotExist) {
			repairs = append(repairs, func() { os.Remove(link) })
		}
	}
	layers, _ := fs.Glob(os.DirFS(home), "*/diff") // the pattern is right
	for _, diff := range layers {
		layer := filepath.Join(home, filepath.Dir(diff))
		if repair := noteShortName(links, layer, names[filepath.Base(layer)]); repair != nil {
			repairs = append(repairs, repair)
		}
	}
	return repairs
}

// noteShortName returns what makes a layer's note and its short name agree,
// nil when they do. linked is "" for a layer that no link leads to.
func noteShortName(links, layer, linked string) func() {
	note := filepath.Join(layer, "link")
	noted, err := os.ReadFile(note)
	noted = bytes.TrimSpace(noted)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil
	case len(noted) == 0 && linked != "":
		return func() { _ = os.WriteFile(note, []byte(linked), 0o644) }
	case len(noted) == 0 && err == nil:
		return func() { os.Remove(note) }
	case len(noted) > 0 && linked == "":
		return func() {
			_ = os.MkdirAll(links, 0o755)
			_ = os.Symlink(filepath.Join("..", filepath.Base(layer), "diff"), filepath.Join(links, string(noted)))
		}
	}
	return nil
}
