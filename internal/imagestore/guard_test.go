package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The storage library panics when it can't open a lock file, and keeps locked
// what it holds then. A directory in the place of the file has that effect for
// root, too.
func TestStoreThatCannotBeLockedIsLost(t *testing.T) {
	root := t.TempDir()
	lost := make(chan error, 2)
	open := func() (*Store, error) {
		return Open(Options{Root: root, Driver: "vfs", Lost: func(err *Error) { lost <- err }})
	}
	g, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Layers(); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(root, "vfs-layers", "layers.lock")
	if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}

	within(t, 5*time.Second, func() {
		for range 2 {
			if _, err := g.Layers(); err == nil {
				t.Error("a store that can't be locked lists its layers")
			}
		}
		if g.Exists("anything") {
			t.Error("there is a layer in a lost store")
		}
		if err := g.Close(); err == nil {
			t.Error("a lost store can be closed")
		}
	})
	select {
	case err := <-lost:
		if !errors.As(err, new(*os.PathError)) {
			t.Errorf("the reason is %v, not the lock file's", err)
		}
		if strings.Count(err.Error(), lock) != 1 {
			t.Errorf("the reason does not name the lock file once: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody was told")
	}
	if _, err := open(); err == nil {
		t.Error("a lost store opens again in this process, where its locks stay held")
	}
}

// Calls that wait for a lock that nobody will give back end as well.
func TestCallsThatWaitEndWithTheStore(t *testing.T) {
	g := newStore()
	within(t, lostStoreGrace+5*time.Second, func() {
		waiting := make(chan error)
		go func() {
			_, err := guarded(g, func() (int, error) { select {} })
			waiting <- err
		}()
		g.lose(errors.New("gone"))
		if err := <-waiting; err == nil || err.Error() != "gone" {
			t.Errorf("the call that waited returned %v", err)
		}
	})
}

func TestMistakesAreNotHidden(t *testing.T) {
	for name, p := range map[string]any{"text": "unlocked too often", "nil map": func() (p any) {
		defer func() { p = recover() }()
		var m map[string]int
		m["a"] = 1 //nolint:staticcheck // this is the mistake
		return nil
	}()} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("the panic was taken for a lock that failed")
				}
			}()
			_ = lockFailure(p)
		})
	}
}

func within(t *testing.T, limit time.Duration, work func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); work() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not ended within %v", limit)
	}
}
