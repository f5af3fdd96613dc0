package imagestore

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

// A Store is an open store of the storage library, whose calls it guards: when
// the library panics the store is lost, and every call fails at once, also one
// that waits for a lock.
//
// Each call that may lock has a goroutine of its own for that; those of a lost
// store that wait stay until the program ends. Methods that are not listed here
// are the library's: nothing in this program calls them.
type Store struct {
	storage.Store
	// try mounts an overlay on the store's disk.
	try  func() error
	gone chan struct{} // closed when the store is lost
	mu   sync.Mutex
	err  error
	tell []func(error)
}

// lostStoreGrace is how long a call that is under way when the store is lost may
// take to end by itself, so that it doesn't use what its caller takes away.
const lostStoreGrace = 2 * time.Second

func newStore() *Store { return &Store{gone: make(chan struct{})} }

// onLost has a function called once, when the store is lost.
func (g *Store) onLost(tell func(error)) {
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
func (g *Store) lose(err error) {
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
func (g *Store) isLost() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// guarded is what a call returns, or that the store is lost.
func guarded[T any](g *Store, call func() (T, error)) (T, error) {
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

func (g *Store) do(call func() error) error {
	_, err := guarded(g, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Exists is false for a lost store, as it is for one that can't be read.
func (g *Store) Exists(id string) bool {
	there, _ := guarded(g, func() (bool, error) { return g.Store.Exists(id), nil })
	return there
}

func (g *Store) GraphDriver() (drivers.Driver, error) {
	return guarded(g, g.Store.GraphDriver)
}

func (g *Store) CreateLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) {
		return g.Store.CreateLayer(id, parent, names, label, writeable, opt)
	})
}

func (g *Store) PutLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions, diff io.Reader) (*storage.Layer, int64, error) {
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

func (g *Store) PrepareStagedLayer(opt *drivers.ApplyDiffWithDifferOpts, differ drivers.Differ) (*drivers.DriverWithDifferOutput, error) {
	return guarded(g, func() (*drivers.DriverWithDifferOutput, error) { return g.Store.PrepareStagedLayer(opt, differ) })
}

func (g *Store) ApplyStagedLayer(args storage.ApplyStagedLayerOptions) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) { return g.Store.ApplyStagedLayer(args) })
}

func (g *Store) CleanupStagedLayer(out *drivers.DriverWithDifferOutput) error {
	return g.do(func() error { return g.Store.CleanupStagedLayer(out) })
}

func (g *Store) Layer(id string) (*storage.Layer, error) {
	return guarded(g, func() (*storage.Layer, error) { return g.Store.Layer(id) })
}

func (g *Store) Layers() ([]storage.Layer, error) {
	return guarded(g, g.Store.Layers)
}

func (g *Store) LayersByCompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByCompressedDigest(d) })
}

func (g *Store) LayersByUncompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByUncompressedDigest(d) })
}

func (g *Store) LayersByTOCDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(g, func() ([]storage.Layer, error) { return g.Store.LayersByTOCDigest(d) })
}

func (g *Store) LookupAdditionalLayer(toc digest.Digest, image string) (storage.AdditionalLayer, error) {
	return guarded(g, func() (storage.AdditionalLayer, error) { return g.Store.LookupAdditionalLayer(toc, image) })
}

func (g *Store) LayerBigData(id, key string) (io.ReadCloser, error) {
	return guarded(g, func() (io.ReadCloser, error) { return g.Store.LayerBigData(id, key) })
}

func (g *Store) SetLayerBigData(id, key string, data io.Reader) error {
	return g.do(func() error { return g.Store.SetLayerBigData(id, key, data) })
}

func (g *Store) DeleteLayer(id string) error {
	return g.do(func() error { return g.Store.DeleteLayer(id) })
}

func (g *Store) Mount(id, label string) (string, error) {
	return guarded(g, func() (string, error) { return g.Store.Mount(id, label) })
}

func (g *Store) Unmount(id string, force bool) (bool, error) {
	return guarded(g, func() (bool, error) { return g.Store.Unmount(id, force) })
}

func (g *Store) Diff(from, to string, opt *storage.DiffOptions) (io.ReadCloser, error) {
	return guarded(g, func() (io.ReadCloser, error) { return g.Store.Diff(from, to, opt) })
}

func (g *Store) DiffSize(from, to string) (int64, error) {
	return guarded(g, func() (int64, error) { return g.Store.DiffSize(from, to) })
}

func (g *Store) CreateImage(id string, names []string, layer, metadata string, opt *storage.ImageOptions) (*storage.Image, error) {
	return guarded(g, func() (*storage.Image, error) { return g.Store.CreateImage(id, names, layer, metadata, opt) })
}

func (g *Store) Image(id string) (*storage.Image, error) {
	return guarded(g, func() (*storage.Image, error) { return g.Store.Image(id) })
}

func (g *Store) Images() ([]storage.Image, error) {
	return guarded(g, g.Store.Images)
}

func (g *Store) ImagesByDigest(d digest.Digest) ([]*storage.Image, error) {
	return guarded(g, func() ([]*storage.Image, error) { return g.Store.ImagesByDigest(d) })
}

func (g *Store) DeleteImage(id string, commit bool) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.DeleteImage(id, commit) })
}

func (g *Store) AddNames(id string, names []string) error {
	return g.do(func() error { return g.Store.AddNames(id, names) })
}

func (g *Store) RemoveNames(id string, names []string) error {
	return g.do(func() error { return g.Store.RemoveNames(id, names) })
}

func (g *Store) SetMetadata(id, metadata string) error {
	return g.do(func() error { return g.Store.SetMetadata(id, metadata) })
}

func (g *Store) ListImageBigData(id string) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.ListImageBigData(id) })
}

func (g *Store) ImageBigData(id, key string) ([]byte, error) {
	return guarded(g, func() ([]byte, error) { return g.Store.ImageBigData(id, key) })
}

func (g *Store) ImageBigDataSize(id, key string) (int64, error) {
	return guarded(g, func() (int64, error) { return g.Store.ImageBigDataSize(id, key) })
}

func (g *Store) SetImageBigData(id, key string, data []byte, digestManifest func([]byte) (digest.Digest, error)) error {
	return g.do(func() error { return g.Store.SetImageBigData(id, key, data, digestManifest) })
}

func (g *Store) Containers() ([]storage.Container, error) {
	return guarded(g, g.Store.Containers)
}

func (g *Store) Lookup(name string) (string, error) {
	return guarded(g, func() (string, error) { return g.Store.Lookup(name) })
}

func (g *Store) Shutdown(force bool) ([]string, error) {
	return guarded(g, func() ([]string, error) { return g.Store.Shutdown(force) })
}
