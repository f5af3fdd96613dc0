package imagestore

import (
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
)

// What follows are the library's own methods, with the guard.

// Exists is false for a lost store, as it is for one that can't be read.
func (s *Store) Exists(id string) bool {
	there, _ := guarded(s, func() (bool, error) { return s.library.Exists(id), nil })
	return there
}

func (s *Store) GraphDriver() (drivers.Driver, error) {
	return guarded(s, s.library.GraphDriver)
}

func (s *Store) CreateLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions) (*storage.Layer, error) {
	return guarded(s, func() (*storage.Layer, error) {
		return s.library.CreateLayer(id, parent, names, label, writeable, opt)
	})
}

func (s *Store) PutLayer(id, parent string, names []string, label string, writeable bool, opt *storage.LayerOptions, diff io.Reader) (*storage.Layer, int64, error) {
	var size int64
	l, err := guarded(s, func() (l *storage.Layer, err error) {
		l, size, err = s.library.PutLayer(id, parent, names, label, writeable, opt, diff)
		return l, err
	})
	if l == nil {
		return nil, 0, err // a call that is still under way may set size
	}
	return l, size, err
}

func (s *Store) PrepareStagedLayer(opt *drivers.ApplyDiffWithDifferOpts, differ drivers.Differ) (*drivers.DriverWithDifferOutput, error) {
	return guarded(s, func() (*drivers.DriverWithDifferOutput, error) { return s.library.PrepareStagedLayer(opt, differ) })
}

func (s *Store) ApplyStagedLayer(args storage.ApplyStagedLayerOptions) (*storage.Layer, error) {
	return guarded(s, func() (*storage.Layer, error) { return s.library.ApplyStagedLayer(args) })
}

func (s *Store) CleanupStagedLayer(out *drivers.DriverWithDifferOutput) error {
	return s.do(func() error { return s.library.CleanupStagedLayer(out) })
}

func (s *Store) Layer(id string) (*storage.Layer, error) {
	return guarded(s, func() (*storage.Layer, error) { return s.library.Layer(id) })
}

func (s *Store) Layers() ([]storage.Layer, error) {
	return guarded(s, s.library.Layers)
}

func (s *Store) LayersByCompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(s, func() ([]storage.Layer, error) { return s.library.LayersByCompressedDigest(d) })
}

func (s *Store) LayersByUncompressedDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(s, func() ([]storage.Layer, error) { return s.library.LayersByUncompressedDigest(d) })
}

func (s *Store) LayersByTOCDigest(d digest.Digest) ([]storage.Layer, error) {
	return guarded(s, func() ([]storage.Layer, error) { return s.library.LayersByTOCDigest(d) })
}

func (s *Store) LookupAdditionalLayer(toc digest.Digest, image string) (storage.AdditionalLayer, error) {
	return guarded(s, func() (storage.AdditionalLayer, error) { return s.library.LookupAdditionalLayer(toc, image) })
}

func (s *Store) LayerBigData(id, key string) (io.ReadCloser, error) {
	return guarded(s, func() (io.ReadCloser, error) { return s.library.LayerBigData(id, key) })
}

func (s *Store) SetLayerBigData(id, key string, data io.Reader) error {
	return s.do(func() error { return s.library.SetLayerBigData(id, key, data) })
}

func (s *Store) DeleteLayer(id string) error {
	return s.do(func() error { return s.library.DeleteLayer(id) })
}

func (s *Store) Mount(id, label string) (string, error) {
	return guarded(s, func() (string, error) { return s.library.Mount(id, label) })
}

func (s *Store) Unmount(id string, force bool) (bool, error) {
	return guarded(s, func() (bool, error) { return s.library.Unmount(id, force) })
}

func (s *Store) Diff(from, to string, opt *storage.DiffOptions) (io.ReadCloser, error) {
	return guarded(s, func() (io.ReadCloser, error) { return s.library.Diff(from, to, opt) })
}

func (s *Store) DiffSize(from, to string) (int64, error) {
	return guarded(s, func() (int64, error) { return s.library.DiffSize(from, to) })
}

func (s *Store) CreateImage(id string, names []string, layer, metadata string, opt *storage.ImageOptions) (*storage.Image, error) {
	return guarded(s, func() (*storage.Image, error) { return s.library.CreateImage(id, names, layer, metadata, opt) })
}

func (s *Store) Image(id string) (*storage.Image, error) {
	return guarded(s, func() (*storage.Image, error) { return s.library.Image(id) })
}

func (s *Store) Images() ([]storage.Image, error) {
	return guarded(s, s.library.Images)
}

func (s *Store) ImagesByDigest(d digest.Digest) ([]*storage.Image, error) {
	return guarded(s, func() ([]*storage.Image, error) { return s.library.ImagesByDigest(d) })
}

func (s *Store) DeleteImage(id string, commit bool) ([]string, error) {
	return guarded(s, func() ([]string, error) { return s.library.DeleteImage(id, commit) })
}

func (s *Store) AddNames(id string, names []string) error {
	return s.do(func() error { return s.library.AddNames(id, names) })
}

func (s *Store) RemoveNames(id string, names []string) error {
	return s.do(func() error { return s.library.RemoveNames(id, names) })
}

func (s *Store) SetMetadata(id, metadata string) error {
	return s.do(func() error { return s.library.SetMetadata(id, metadata) })
}

func (s *Store) ListImageBigData(id string) ([]string, error) {
	return guarded(s, func() ([]string, error) { return s.library.ListImageBigData(id) })
}

func (s *Store) ImageBigData(id, key string) ([]byte, error) {
	return guarded(s, func() ([]byte, error) { return s.library.ImageBigData(id, key) })
}

func (s *Store) ImageBigDataSize(id, key string) (int64, error) {
	return guarded(s, func() (int64, error) { return s.library.ImageBigDataSize(id, key) })
}

func (s *Store) SetImageBigData(id, key string, data []byte, digestManifest func([]byte) (digest.Digest, error)) error {
	return s.do(func() error { return s.library.SetImageBigData(id, key, data, digestManifest) })
}

func (s *Store) Container(id string) (*storage.Container, error) {
	return guarded(s, func() (*storage.Container, error) { return s.library.Container(id) })
}

func (s *Store) DeleteContainer(id string) error {
	return s.do(func() error { return s.library.DeleteContainer(id) })
}

// With gives the library's store to another library, all of whose calls it guards.
func (s *Store) With(do func(storage.Store) error) error {
	return s.do(func() error { return do(s.library) })
}

func (s *Store) Containers() ([]storage.Container, error) {
	return guarded(s, s.library.Containers)
}

func (s *Store) Lookup(name string) (string, error) {
	return guarded(s, func() (string, error) { return s.library.Lookup(name) })
}

func (s *Store) Shutdown(force bool) ([]string, error) {
	return guarded(s, func() ([]string, error) { return s.library.Shutdown(force) })
}
