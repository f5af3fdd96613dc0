package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What clears up takes the library's locks, too, and finds the store lost.
func TestMendingALostStoreEnds(t *testing.T) {
	root := t.TempDir()
	s, err := Open(Options{Root: root, Driver: "vfs"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layers(); err != nil {
		t.Fatal(err)
	}
	// Whoever was killed has left a file, and the lock can't be opened.
	layers := filepath.Join(root, "vfs-layers")
	lock := filepath.Join(layers, "layers.lock")
	if err := errors.Join(os.WriteFile(filepath.Join(layers, libraryFile+"layers.json"), nil, 0o600), os.RemoveAll(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}
	within(t, 2*lostStoreGrace+5*time.Second, func() {
		s.Mend()
		if s.isLost() == nil {
			t.Error("the store isn't lost")
		}
		if err := s.Close(); err == nil {
			t.Error("a lost store can be closed")
		}
	})
}
