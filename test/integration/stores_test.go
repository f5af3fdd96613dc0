//go:build integration

package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stores are the image stores that tests build in. Each belongs to one test at a
// time, with its subtests, so that tests side by side do not see each other's
// containers, mounts and caches. What a test has built stays for the next one,
// above all the base image.
var stores = struct {
	sync.Mutex
	free  []string
	made  int
	owned map[string]*owned
}{owned: map[string]*owned{}}

// An owned store is that of a test whose projects use it.
type owned struct {
	dir   string
	users int
}

// storeOf returns the store of the test for as long as t runs.
func storeOf(t *testing.T) string { return own(t, takeStore) }

// own makes the store that take returns the test's, unless it has one.
func own(t *testing.T, take func(*testing.T) string) string {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	stores.Lock()
	defer stores.Unlock()
	o := stores.owned[top]
	if o == nil {
		o = &owned{dir: take(t)}
		stores.owned[top] = o
	}
	o.users++
	t.Cleanup(func() {
		stores.Lock()
		defer stores.Unlock()
		if o.users--; o.users == 0 {
			delete(stores.owned, top)
			stores.free = append(stores.free, o.dir)
		}
	})
	return o.dir
}

// takeStore returns the store that was used last, since what it has is still in
// memory, or a new one.
func takeStore(t *testing.T) string {
	t.Helper()
	if n := len(stores.free); n > 0 {
		dir := stores.free[n-1]
		stores.free = stores.free[:n-1]
		return dir
	}
	dir := filepath.Join(storeRoot, fmt.Sprint("store", stores.made))
	stores.made++
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// prepared are images that take long to make and are made once, as directories
// in imagesDir. Other users' runs, and later ones, find them there.
var prepared = struct {
	sync.Mutex
	errs map[string]error
	// stores are those in which this run has made them.
	stores map[string]string
}{errs: map[string]error{}, stores: map[string]string{}}

// preparedImage is the image of that name for 'from:'. Where it is not there
// yet, it is built in a context.
func preparedImage(t *testing.T, name, context string) string {
	t.Helper()
	prepared.Lock()
	defer prepared.Unlock()
	dir := filepath.Join(imagesDir, name)
	if _, err := os.Stat(dir); err != nil {
		if prepared.errs[name] == nil {
			prepared.errs[name] = prepareImage(t, context, dir)
			prepared.stores[name] = storeOf(t)
		}
		if err := prepared.errs[name]; err != nil {
			t.Fatalf("make the image %s: %v", name, err)
		}
	}
	return "oci:" + dir
}

// prepareImage builds an image as a whole directory that every user may read.
func prepareImage(t *testing.T, context, dir string) error {
	t.Helper()
	made, err := os.MkdirTemp(imagesDir, "making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	p := &project{t: t, dir: context, store: storeOf(t)}
	if o := p.build("--tag", "prepared", "--compression", "none", "-o", "type=oci,dest="+filepath.Join(made, "image")); o.code != 0 {
		return fmt.Errorf("exit code %d\n%s", o.code, o.stderr)
	}
	err = filepath.WalkDir(made, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
	if err = errors.Join(err, os.Rename(filepath.Join(made, "image"), dir)); errors.Is(err, fs.ErrExist) {
		return nil // another user was quicker
	}
	return err
}

// base starts most recipes: a Debian that is bootstrapped once.
func base(t *testing.T) string {
	t.Helper()
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "pdibuild.yaml"), []byte(bootstrapRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return preparedImage(t, "bookworm", context)
}

const bootstrapRecipe = "version: 1\nname: localhost/bootstrap\nstages: [{name: s, from: 'mmdebstrap:bookworm'}]\n"

// ownStoreWith gives the test the store in which this run has made a prepared
// image, if it did, so that its steps are there. It waits for the test that has
// the store.
func ownStoreWith(t *testing.T, name string) {
	t.Helper()
	prepared.Lock()
	dir := prepared.stores[name]
	prepared.Unlock()
	own(t, func(t *testing.T) string {
		if dir == "" {
			return takeStore(t)
		}
		for {
			if i := slices.Index(stores.free, dir); i >= 0 {
				stores.free = slices.Delete(stores.free, i, i+1)
				return dir
			}
			stores.Unlock()
			time.Sleep(100 * time.Millisecond)
			stores.Lock()
		}
	})
}

// A Debian that is bootstrapped has the same id for every user, and a host that
// has a step cache does without.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	base(t)
	ownStoreWith(t, "bookworm")
	p := newProject(t, bootstrapRecipe)
	first := p.build().ok()
	tell(t, "bootstrap", first.ImageID)
	if kindOfUser() != asRoot {
		return // the same for every user
	}
	dir := filepath.Join(t.TempDir(), "steps")
	p.build("--cache-to", "type=local,dest="+dir).ok()
	if warm := p.fresh("--cache-from", "type=local,src="+dir); warm.ImageID != first.ImageID || warm.Executed != 0 {
		t.Errorf("image %s with %d steps executed, want %s with none\n%s", warm.ImageID, warm.Executed, first.ImageID, warm.stderr)
	}
}
