package cache_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pdidev/pdibuild/pkg/cache"
)

// Whatever processes that were killed have left is removed, and nothing that
// somebody still has.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	steps, err := cache.OpenSteps(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := steps.Lock(t.Context(), "held")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := steps.Put("kept", cache.Record{Layer: "a"}); err != nil {
		t.Fatal(err)
	}
	abandoned := []string{filepath.Join(dir, "locks", "abandoned"), filepath.Join(dir, "new", "half")}
	for _, path := range abandoned {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps.Clear()
	for _, path := range abandoned {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "locks", "held")); err != nil {
		t.Errorf("the lock that is held: %v", err)
	}
	if rec, err := steps.Get("kept"); err != nil || rec.Layer != "a" {
		t.Errorf("the record is %v, %v", rec, err)
	}
}

// Layers has every layer that a record names, also those in the middle.
func TestLayers(t *testing.T) {
	steps, err := cache.OpenSteps(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for key, rec := range map[string]cache.Record{
		"one": {Layer: "a"},
		"two": {Layer: "d", Below: []cache.Layer{{ID: "b"}, {ID: "c"}}},
	} {
		if err := steps.Put(key, rec); err != nil {
			t.Fatal(err)
		}
	}
	layers := steps.Layers()
	for _, id := range []string{"a", "b", "c", "d"} {
		if !layers[id] {
			t.Errorf("layer %s is not among %v", id, layers)
		}
	}
}
