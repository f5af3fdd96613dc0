package builder

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
)

// A guardedStore keeps the storage library from ending the program. When the
// library can't open or lock one of its lock files (a disk that fails, a store
// that somebody removes) it panics, and what it holds at that moment stays
// locked in this process. The store is lost then: every call fails at once, also
// one that waits for such a lock.
//
// Each call that may lock has a goroutine of its own for that; those of a lost
// store that wait stay until the program ends. Methods that are not listed here
// are the library's: nothing in this program calls them.
type guardedStore struct {
	storage.Store
	gone chan struct{} // closed when the store is lost
	mu   sync.Mutex
	err  error
	tell []func(error)
}

// lostStoreGrace is how long a call that is under way when the store is lost may
// take to end by itself, so that it doesn't use what its caller takes away.
const lostStoreGrace = 2 * time.Second

func newGuardedStore() *guardedStore { return &guardedStore{gone: make(chan struct{})} }

// onLost has a function called once, when the store is lost.
func (g *guardedStore) onLost(tell func(error)) {
	if tell == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		go tell(g.err)
		return
	}
	g.tell = append(g.tell, tell)
}

// lose makes all calls fail from now on.
func (g *guardedStore) lose(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return
	}
	g.err = err
	for _, tell := range g.tell {
		go tell(err)
	}
	close(g.gone)
}

// isLost returns why the store is lost, nil when it isn't.
func (g *guardedStore) isLost() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// guarded is what a call returns, or that the store is lost.
func guarded[T any](g *guardedStore, call func() (T, error)) (T, error) {
	var none T
	if err := g.isLost(); err != nil {
		return none, err
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				g.lose(lockFailure(p))
			}
		}()
		value, err := call()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-g.gone:
	}
	select {
	case a := <-done:
		return a.value, a.err
	case <-time.After(lostStoreGrace):
		return none, g.isLost()
	}
}

// lockFailure is the error that the library panicked with. Any other panic is a
// mistake in a program and goes on.
func lockFailure(p any) error {
	err, ok := p.(error)
	if _, mistake := p.(runtime.Error); !ok || mistake {
		panic(p)
	}
	var inner *os.PathError
	if outer, ok := err.(*os.PathError); ok && errors.As(outer.Err, &inner) && inner.Path == outer.Path { //nolint:errorlint // the outermost
		return inner // once is enough to say what could not be opened
	}
	return err
}

func (g *guardedStore) do(call func() error) error {
	_, err := guarded(g, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Exists is false for a lost store, as it is for one that can't be read.
func (g *guardedStore) Exists(id string) bool {
	there, _ := guarded(g, func() (bool, error) { return g.Store.Exists(id), nil })
	return there
}

func (g *guardedStore) GraphDriver() (drivers.Driver, error) {
	return guarded(g, g.Store.GraphDriver)
}

func (g *guardedStore) CreateLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) {
		return g.Store.CreateLayer(id, parent, names, label, writeable, opt)
	})
}

func (g *guardedStore) PutLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions, diff io.Reader) (*storage.Layer, int64, error) {
	var size int64
	l, err := guarded(g, func() (l *storage.Layer, err error) {
		l, size, err = g.Store.PutLayer(id, parent, names, label, writeable, opt, diff)
		return l, err
	})
	if l == nil {
		return nil, 0, err // a call that is still under way may set size
	}
	return l, size, err
}

func (g *guardedStore) PrepareStagedLayer(opt *drivers.ApplyDiffWithDifferOpts, differ drivers.Differ) (*drivers.DriverWithDifferOutput, error) {
	return guarded(g, func() (*drivers.DriverWithDifferOutput, error) { return g.Store.PrepareStagedLayer(opt, differ) })
}

func (g *guardedStore) ApplyStagedLayer(args storage.ApplyStagedLayerOptions) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) { return g.Store.ApplyStagedLayer(args) })
}

func (g *guardedStore) CleanupStagedLayer(out *drivers.DriverWithDifferOutput) error {
	return g.do(func() error { return g.Store.CleanupStagedLayer(out) })
}

func (g *guardedStore) Layer(id string) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) { return g.Store.Layer(id) })
}

func (g *guardedStore) Layers() ([]storage.Layer, error) {
	return guarded(g, g.Store.Layers)
}

func (g *guardedStore) LayersByCompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByCompressedDigest(d) })
}

func (g *guardedStore) LayersByUncompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByUncompressedDigest(d) })
}

func (g *guardedStore) LayersByTOCDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByTOCDigest(d) })
}

func (g *guardedStore) LookupAdditionalLayer(toc digest.Digest, image string) (storage.AdditionalLayer, error) {
	return guarded(g, func() (storage.AdditionalLayer, error) { return g.Store.LookupAdditionalLayer(toc, image) })
}

func (g *guardedStore) LayerBigData(id, key string) (io.ReadCloser, error) {
	return guarded(g, func() (io.ReadCloser, error) { return g.Store.LayerBigData(id, key) })
}

func (g *guardedStore) SetLayerBigData(id, key string, data io.Reader) error {
	return g.do(func() error { return g.Store.SetLayerBigData(id, key, data) })
}

func (g *guardedStore) DeleteLayer(id string) error {
	return g.do(func() error { return g.Store.DeleteLayer(id) })
}

func (g *guardedStore) Mount(id, label string) (string, error) {
	return guarded(g, func() (string, error) { return g.Store.Mount(id, label) })
}

func (g *guardedStore) Unmount(id string, force bool) (bool, error) {
	return guarded(g, func() (bool, error) { return g.Store.Unmount(id, force) })
}

func (g *guardedStore) Diff(from, to string, opt *storage.DiffOptions) (io.ReadCloser, error) {
	return guarded(g, func() (io.ReadCloser, error) { return g.Store.Diff(from, to, opt) })
}

func (g *guardedStore) DiffSize(from, to string) (int64, error) {
	return guarded(g, func() (int64, error) { return g.Store.DiffSize(from, to) })
}

func (g *guardedStore) CreateImage(id string, names []string, layer, metadata string, opt *storage.ImageOptions) (*storage.Image, error) {
	return guarded(g, func() (*storage.Image, error) { return g.Store.CreateImage(id, names, layer, metadata, opt) })
}

func (g *guardedStore) Image(id string) (*storage.Image, error) {
	return guarded(g, func() (*storage.Image, error) { return g.Store.Image(id) })
}

func (g *guardedStore) Images() ([]storage.Image, error) {
	return guarded(g, g.Store.Images)
}

func (g *guardedStore) ImagesByDigest(d digest.Digest) ([]*storage.Image, error) {
	return guarded(g, func() ([]*storage.Image, error) { return g.Store.ImagesByDigest(d) })
}

func (g *guardedStore) DeleteImage(id string, commit bool) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.DeleteImage(id, commit) })
}

func (g *guardedStore) AddNames(id string, names []string) error {
	return g.do(func() error { return g.Store.AddNames(id, names) })
}

func (g *guardedStore) RemoveNames(id string, names []string) error {
	return g.do(func() error { return g.Store.RemoveNames(id, names) })
}

func (g *guardedStore) SetMetadata(id, metadata string) error {
	return g.do(func() error { return g.Store.SetMetadata(id, metadata) })
}

func (g *guardedStore) ListImageBigData(id string) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.ListImageBigData(id) })
}

func (g *guardedStore) ImageBigData(id, key string) ([]byte, error) {
	return guarded(g, func() ([]byte, error) { return g.Store.ImageBigData(id, key) })
}

func (g *guardedStore) ImageBigDataSize(id, key string) (int64, error) {
	return guarded(g, func() (int64, error) { return g.Store.ImageBigDataSize(id, key) })
}

func (g *guardedStore) SetImageBigData(id, key string, data []byte, digestManifest func([]byte) (digest.Digest, error)) error {
	return g.do(func() error { return g.Store.SetImageBigData(id, key, data, digestManifest) })
}

func (g *guardedStore) Containers() ([]storage.Container, error) {
	return guarded(g, g.Store.Containers)
}

func (g *guardedStore) Lookup(name string) (string, error) {
	return guarded(g, func() (string, error) { return g.Store.Lookup(name) })
}

func (g *guardedStore) Shutdown(force bool) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.Shutdown(force) })
}
