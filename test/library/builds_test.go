//go:build integration

package library

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/test/registry"
)

// Builds that follow each other in one process, each with a pull's and a
// push's connections, leave nothing in it.
func TestNothingStaysInProcess(t *testing.T) {
	needNamespace(t)
	p := newProgram(t)
	p.registry = registry.Start(t, registry.Options{})
	// A file that nobody closes is closed when the garbage is collected: then
	// it would not be seen.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(2 << 30))
	// What is made once for a whole process is there after the first.
	if _, err := p.build(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	before := lookAround(t)
	for i := range *builds {
		result, err := p.build(t.Context(), fmt.Sprintf("build%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if result.Executed == 0 {
			t.Error("nothing was executed")
		}
	}
	before.wantNothingNew(t)
	t.Logf("%d builds and pushes in one process: %d file descriptors and %d mounts, as after the first; no goroutine left", *builds, len(before.descriptors), len(before.mounts))
}

// Nor do builds that fail or are cancelled.
func TestNothingStaysAfterFailures(t *testing.T) {
	needNamespace(t)
	p := newProgram(t)
	if _, err := p.build(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	before := lookAround(t)
	fail := func(steps ...recipe.Step) error {
		b, err := p.open()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		rec := p.recipe("first")
		rec.Stages[2].Steps = append(rec.Stages[2].Steps, steps...)
		plan, err := b.Plan(ctx, rec, p.context, builder.PlanOptions{})
		if err != nil {
			return err
		}
		_, err = b.Build(ctx, plan, builder.BuildOptions{Output: func(_ string, _ int, line []byte) {
			if strings.HasPrefix(string(line), "cancel") {
				cancel(errEnough)
			}
		}})
		return err
	}
	var step *builder.StepError
	if err := fail(recipe.Run{Command: command("false")}); !errors.As(err, &step) {
		t.Errorf("a step that fails: %v", err)
	}
	if err := fail(recipe.Run{Command: command("sh", "-c", "echo cancel; exec /bin/busybox sleep 1000")}); !errors.Is(err, errEnough) {
		t.Errorf("a build that is cancelled: %v", err)
	}
	if err := fail(recipe.Copy{Sources: []string{"missing"}, To: "/"}); err == nil {
		t.Error("a file that is missing was copied")
	}
	b, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	// Nobody answers at port 1 of this host, and there are three more attempts.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Push(ctx, "localhost/library:first", "127.0.0.1:1/library:1", builder.PushOptions{Events: func(builder.Event) {}}); err == nil {
		t.Error("a push to nobody has succeeded")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	before.wantNothingNew(t)
}

var errEnough = errors.New("that is enough")

// Two stores in one process are two stores: builds in both at once give the
// same image, and one knows nothing of the other.
func TestTwoStoresAtOnce(t *testing.T) {
	needNamespace(t)
	programs := []*program{newProgram(t), newProgram(t)}
	before := lookAround(t)
	for i := range *builds {
		ids := make([]string, len(programs))
		atOnce(t, len(programs), func(n int) error {
			result, err := programs[n].build(t.Context(), fmt.Sprintf("both%d", i))
			if err == nil {
				ids[n] = result.ImageID
			}
			return err
		})
		if ids[0] != ids[1] {
			t.Errorf("build %d: %s in one store, %s in the other", i, ids[0], ids[1])
		}
	}
	if _, err := programs[0].build(t.Context(), "alone"); err != nil {
		t.Fatal(err)
	}
	for n, want := range []int{*builds + 1, *builds} {
		b, err := programs[n].open()
		if err != nil {
			t.Fatal(err)
		}
		images, err := b.Images(t.Context())
		if err != nil || len(images) != want {
			t.Errorf("store %d has %d images, want %d (%v)", n, len(images), want, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	before.wantNothingNew(t)
}

// Several Builders of one process share a store, and so do several goroutines
// one Builder. A Builder that is closed takes nothing from one that works.
func TestBuildersShareStore(t *testing.T) {
	needNamespace(t)
	p := newProgram(t)
	before := lookAround(t)
	shared, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	var ids sync.Map
	atOnce(t, 4, func(n int) (err error) {
		for i := range max(1, *builds/4) {
			var result *builder.Result
			word := fmt.Sprintf("word%d", i)
			if n%2 == 0 {
				result, err = p.buildWith(t.Context(), shared, word)
			} else {
				result, err = p.build(t.Context(), word)
			}
			if err != nil {
				return fmt.Errorf("builder %d: %w", n, err)
			}
			if other, _ := ids.LoadOrStore(word, result.ImageID); other != result.ImageID {
				return fmt.Errorf("builder %d made another image of %s", n, word)
			}
		}
		return nil
	})
	if err := shared.Close(); err != nil {
		t.Error(err)
	}
	before.wantNothingNew(t)
	if works, err := os.ReadDir(filepath.Join(p.store, "pdibuild", "work")); err != nil || len(works) > 0 {
		t.Errorf("working layers stay: %v (%v)", works, err)
	}
}

// atOnce runs work n times side by side.
func atOnce(t *testing.T, n int, work func(int) error) {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = work(i) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
