package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus" //nolint:depguard // the one place that silences it
	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/imagetransfer"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// A Builder holds an open image store. Its methods may be called from several
// goroutines; several Builders, also in other processes, may share a store.
type Builder struct {
	store *imagestore.Store
	steps *cache.Steps
	works *works
	// failed are the containers of failed steps.
	failed *failedSteps
	ids    identity
	// stages says that layers can be made of hard links; see stageTree.
	stages bool
	// shared says that the store is the one that podman of this user has.
	shared   bool
	logDir   string
	cacheDir string
	// remote reaches images outside of the store.
	remote *imagetransfer.Client
	limits CacheLimits
	// users are those who build in this store; leave is nil until we do.
	users   *cache.Users
	notices notices
	// manyLayers are the images whose number of layers was spoken of.
	manyLayers sync.Map
	mu         sync.Mutex
	leave      func()
	closed     bool
}

// Open opens the image store. A *HostError says why this host has none.
func Open(opt StoreOptions) (*Builder, error) {
	captureLibraryLog()
	ids, err := currentIdentity()
	if err != nil {
		return nil, hostError("find out who this is", err, hosthelp.Process)
	}
	store, err := openStore(opt, ids)
	if err != nil {
		return nil, err
	}
	b := &Builder{store: store, ids: ids, remote: &imagetransfer.Client{Registries: opt.Registries}, limits: opt.Limits, shared: opt.Root == ""}
	if err := b.openState(opt); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return b, nil
}

// openState makes what pdibuild keeps beside the layers. It lives in the
// graph root, because it describes that very store.
func (b *Builder) openState(opt StoreOptions) (err error) {
	dir := filepath.Join(b.store.GraphRoot(), "pdibuild")
	b.cacheDir = filepath.Join(dir, "cache")
	b.logDir = opt.LogDir
	if b.logDir == "" {
		b.logDir = filepath.Join(dir, "log")
	}
	if err := os.MkdirAll(b.cacheDir, 0o700); err != nil {
		return storeError(b.cacheDir, err)
	}
	if err := os.MkdirAll(b.logDir, 0o700); err != nil && opt.LogDir == "" {
		return storeError(b.logDir, err)
	} else if err != nil {
		return elsewhere("make the directory for logs", err, cmp.Or(diskTopic(err, ""), hosthelp.StorePermission), b.logDir)
	}
	b.dropDamagedBlobs()
	b.stages = b.store.CanStage()
	if b.steps, err = cache.OpenSteps(filepath.Join(dir, "steps")); err != nil {
		return storeError(dir, err)
	}
	if b.users, err = cache.OpenUsers(filepath.Join(dir, "users")); err != nil {
		return storeError(dir, err)
	}
	if b.works, err = openWorks(b.store, worksIn(b.store.GraphRoot()), b.ids.single); err != nil {
		return storeError(dir, err)
	}
	b.works.noteOwners = b.noteImageOwners
	b.works.recorded, b.works.clear = b.steps.Layers, b.clear
	b.works.finished = b.finishedImage
	if b.failed, err = openFailedSteps(b.works, filepath.Join(dir, "failed")); err != nil {
		return storeError(dir, err)
	}
	b.remote.BlobCache, b.remote.Temporary = b.cacheDir, b.works.begin
	if err = b.remote.UseDefaults(dir); err != nil {
		return storeError(dir, err)
	}
	return nil
}

// Close releases the store. Layers and images stay. To close a Builder again
// does nothing.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if b.leave != nil {
		b.leave()
		b.leave = nil
	}
	err := b.works.end()
	shutdownErr := b.store.Close()
	if errors.Is(shutdownErr, storage.ErrLayerUsedByContainer) {
		shutdownErr = nil // another build's working layer; it is not ours to unmount
	}
	return b.hostCause("close the image store", errors.Join(err, shutdownErr))
}

// enter keeps others from removing what we are about to use, until Close.
func (b *Builder) enter(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leave != nil {
		return nil
	}
	leave, err := b.users.Enter(ctx)
	if err != nil {
		return err
	}
	b.leave = leave
	return nil
}

func openStore(opt StoreOptions, ids identity) (*imagestore.Store, error) {
	store, err := imagestore.Open(imagestore.Options{
		Root: opt.Root, RunRoot: opt.RunRoot, Driver: opt.Driver,
		SingleID: ids.single, UserNamespace: ids.rootless, Scratch: trialDirectory,
		Lost: func(err *imagestore.Error) {
			if opt.Lost != nil {
				opt.Lost(storeFailure(err))
			}
		},
	})
	var failed *imagestore.Error
	if errors.As(err, &failed) {
		return nil, storeFailure(failed)
	}
	return store, err
}

// storeError is for what pdibuild keeps in the store at path.
func storeError(path string, err error) error {
	return storeFailure(&imagestore.Error{Op: "open", Root: path, Err: err})
}

func storeFailure(failed *imagestore.Error) error {
	err := failed.Err
	if _, tempErr := os.Stat(os.TempDir()); tempErr != nil {
		// The library says something else then.
		return hostError("find a place for temporary files", tempErr, hosthelp.TemporaryDirectory)
	}
	topic := hosthelp.Store
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		topic = hosthelp.StorePermission
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		topic = hosthelp.Disk
	case errors.Is(err, unix.EIO):
		topic = hosthelp.DiskErrors
	}
	return diskHint(hostError(fmt.Sprintf("%s the image store at %s", failed.Op, failed.Root), err, topic))
}

// captureLibraryLog silences the one global logger that the containers
// libraries share: what matters comes back as errors.
func captureLibraryLog() {
	logrus.SetLevel(logrus.FatalLevel)
}
