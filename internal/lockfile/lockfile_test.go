package lockfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/internal/lockfile"
)

func abandoned(dir string) (names []string) {
	lockfile.Abandoned(dir, nil, func(name string) { names = append(names, name) })
	return names
}

// A file is abandoned when its holder has closed it, not before.
func TestAbandoned(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "held")
	f, err := lockfile.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if names := abandoned(dir); len(names) != 0 {
		t.Errorf("abandoned although it is held: %v", names)
	}
	if _, err := lockfile.Try(path); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("a second holder gets %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if names := abandoned(dir); len(names) != 1 || names[0] != "held" {
		t.Errorf("abandoned: %v, want the file", names)
	}
	lockfile.Abandoned(dir, nil, func(string) {
		if _, err := lockfile.Try(path); !errors.Is(err, lockfile.ErrHeld) {
			t.Errorf("while it is cleared, another one gets %v", err)
		}
	})
}

func TestLockGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "held")
	f, err := lockfile.New(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lockfile.Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock ends with %v", err)
	}
}

// Whoever makes a file while others look for abandoned ones has it: nobody
// takes it away between its making and its locking.
func TestNobodyTakesANewFile(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var cleaners, makers sync.WaitGroup
	for range 2 {
		cleaners.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					lockfile.Abandoned(dir, nil, func(name string) { _ = os.Remove(filepath.Join(dir, name)) })
				}
			}
		})
	}
	for i := range 4 {
		makers.Go(func() {
			path := filepath.Join(dir, string(rune('a'+i)))
			for range 500 {
				f, err := lockfile.Lock(t.Context(), path)
				if err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("the file that is held: %v", err)
				}
				_, _ = os.Remove(path), f.Close()
			}
		})
	}
	makers.Wait()
	close(stop)
	cleaners.Wait()
}
