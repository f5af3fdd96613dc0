package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/cache"
)

const key = "ab0123456789"

// steps is an index with one record, and the record's file.
func steps(t *testing.T) (*cache.Steps, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := cache.OpenSteps(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(key, cache.Record{Layer: "layer", DiffID: "sha256:aa", Added: true, Text: "run make"}); err != nil {
		t.Fatal(err)
	}
	return s, filepath.Join(dir, "ab", key+".json")
}

func TestADamagedRecordIsDroppedAndSaidOnce(t *testing.T) {
	whole := func() string {
		_, file := steps(t)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}()
	for name, text := range map[string]string{
		"empty": "", "cut short": whole[:len(whole)/3], "without the end of its seal": whole[:len(whole)-9],
		"another layer": strings.Replace(whole, `"layer":"layer"`, `"layer":"lay3r"`, 1), "zeros": strings.Repeat("\x00", len(whole)),
	} {
		s, file := steps(t)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(key)
		var damaged *cache.DamagedError
		if !errors.As(err, &damaged) || damaged.Key != key {
			t.Errorf("%s: error %v, want a *DamagedError", name, err)
		}
		if _, err := s.Get(key); !errors.Is(err, cache.ErrUnknown) {
			t.Errorf("%s: the second time: %v, want ErrUnknown", name, err)
		}
	}
}

// Caches of earlier versions stay usable.
func TestARecordWithoutASealIsRead(t *testing.T) {
	s, file := steps(t)
	if err := os.WriteFile(file, []byte(`{"layer":"old","added":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if rec, err := s.Get(key); err != nil || rec.Layer != "old" {
		t.Errorf("got %v, %v", rec, err)
	}
}

func TestDiscardLeavesWhatIsUsed(t *testing.T) {
	s, file := steps(t)
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Minute)
	if _, err := s.Get(key); err != nil { // a build has begun to use it
		t.Fatal(err)
	}
	if gone, err := s.Discard(key, since); err != nil || gone {
		t.Fatalf("Discard: %v, %v; want it to stay", gone, err)
	}
	if _, err := s.Get(key); err != nil {
		t.Fatalf("after Discard: %v", err)
	}
	if gone, err := s.Discard(key, time.Now().Add(time.Hour)); err != nil || !gone {
		t.Fatalf("Discard: %v, %v; want it to go", gone, err)
	}
	if _, err := s.Get(key); !errors.Is(err, cache.ErrUnknown) {
		t.Errorf("after Discard: %v, want ErrUnknown", err)
	}
}

func TestAllDoesNotMarkRecordsAsUsed(t *testing.T) {
	s, file := steps(t)
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	all, err := s.All()
	if err != nil || len(all) != 1 || all[0].Key != key || !all[0].LastUse.Equal(past) {
		t.Fatalf("All: %+v, %v", all, err)
	}
	if _, err := s.Get(key); err != nil {
		t.Fatal(err)
	}
	if all, _ = s.All(); time.Since(all[0].LastUse) > time.Minute {
		t.Errorf("last use is %v after Get", all[0].LastUse)
	}
}
