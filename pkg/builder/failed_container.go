package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/buildah"
	"go.podman.io/buildah/define"
	nettypes "go.podman.io/common/libnetwork/types"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"

	"github.com/pdidev/pdibuild/pkg/cache"
)

// The container of a failed step is one of Buildah's: 'buildah containers' lists
// it, and mount, run and commit work on it. It stands on an image of the stage as
// it was before the step. Both go with the record of the failed step.

// containerName is the name of the container that a working layer becomes.
func containerName(id string) string { return "pdibuild-" + id[:min(len(id), 12)] }

// stageFlag marks an image that was made for the container of a failed step. Its
// value is the id of the working layer.
const stageFlag = "pdibuild-failed"

// makeContainer makes the working layer of a failed command a container of
// Buildah's. Where that is not possible it stays a layer.
func (x *stepRun) makeContainer(ctx context.Context, f failure, s failedStep) error {
	store := x.run.b.store
	files, err := layerDir(store, f.wk.id)
	if err != nil || files == "" || f.state.layer == "" {
		return err // the driver keeps files in another way, or there is no image below
	}
	image, err := x.stageImage(f)
	if err != nil {
		return err
	}
	c, err := x.run.b.newContainer(ctx, image, s)
	if err == nil {
		err = f.wk.moveInto(c, files)
	}
	if err != nil {
		return errors.Join(err, f.wk.owner.removeContainer(f.wk.id))
	}
	return nil
}

// stageImage makes an image of the stage as it was before the failed step.
func (x *stepRun) stageImage(f failure) (id string, err error) {
	s := f.state.clone()
	config, manifest, err := x.run.documents(&s)
	if err != nil {
		return "", err
	}
	if err := x.run.searchImage(s, config, manifest); err != nil {
		return "", err
	}
	id = digest.FromBytes(config).Encoded()
	err = x.run.b.createImage(id, s.layer, config, manifest, storage.ImageOptions{CreationDate: x.run.plan.time(), Flags: map[string]any{stageFlag: f.wk.id}})
	if err != nil {
		return "", err
	}
	img, err := x.run.b.store.Image(id)
	if err == nil && img.TopLayer != s.layer {
		err = errors.New("the store has the stage's image on other layers")
	}
	return id, err
}

// noNetworks is the interface to networks of a container that has none of its
// own; without it Buildah looks for a network program of the host.
type noNetworks struct{ nettypes.ContainerNetwork }

// newContainer has Buildah make a container in which the failed command would
// run.
func (b *Builder) newContainer(ctx context.Context, image string, s failedStep) (c *storage.Container, err error) {
	err = b.store.With(func(store storage.Store) error {
		made, err := buildah.NewBuilder(ctx, store, buildah.BuilderOptions{
			FromImage: image, Container: containerName(s.Layer), PullPolicy: define.PullNever, NetworkInterface: noNetworks{},
			SystemContext: &types.SystemContext{SignaturePolicyPath: b.remote.Policy}, SignaturePolicyPath: b.remote.Policy,
			Isolation: define.IsolationChroot, Format: define.OCIv1ImageManifest, CommonBuildOpts: &define.CommonBuildOptions{},
			PreserveBaseImageAnns: true,
		})
		if err != nil {
			return err
		}
		for _, kv := range s.Env {
			name, value, _ := strings.Cut(kv, "=")
			made.SetEnv(name, value)
		}
		made.SetUser(s.User)
		made.SetWorkDir(s.Cwd)
		if err := made.Save(); err != nil {
			return err
		}
		c, err = store.Container(made.ContainerID)
		return err
	})
	return c, err
}

// moveInto gives the files of a working layer, which nobody uses any more, to a
// container that has none of its own yet.
func (wk *work) moveInto(c *storage.Container, files string) error {
	store := wk.owner.store
	l, err := store.Layer(c.LayerID)
	if err != nil {
		return err
	}
	to, err := layerDir(store, l.ID)
	if err != nil {
		return err
	}
	if to == "" || l.Parent != wk.parent {
		return errors.New("the container stands on another layer")
	}
	wk.leaveRoot()
	wk.root, wk.upper, wk.files = nil, nil, nil
	if _, err := store.Unmount(wk.id, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) {
		return err
	}
	if err := os.Remove(to); err != nil {
		return err // it has files
	}
	if err := os.Rename(files, to); err != nil {
		return errors.Join(err, os.Mkdir(to, 0o755))
	}
	wk.parked = true
	return nil
}

// container returns the container that a working layer has become, nil if it is
// a layer.
func (w *works) container(id string) *storage.Container {
	c, err := w.store.Container(containerName(id))
	if err != nil {
		return nil
	}
	return c
}

// removeContainer removes the container that a working layer has become, and the
// image that was made for it.
func (w *works) removeContainer(id string) error {
	of := "" // an image that a container has had before may be another one's, too
	if c := w.container(id); c != nil {
		of = c.ImageID
		if _, err := w.store.Unmount(c.LayerID, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) && !unknownLayer(err) {
			return fmt.Errorf("remove the container of a failed step: %w", err)
		}
		if err := w.store.DeleteContainer(c.ID); err != nil && !errors.Is(err, storage.ErrContainerUnknown) {
			return fmt.Errorf("remove the container of a failed step: %w", err)
		}
	}
	images, err := w.store.Images()
	if err != nil {
		return fmt.Errorf("remove the container of a failed step: %w", err)
	}
	for _, img := range images {
		if forFailedStep(&img) && (img.ID == of || img.Flags[stageFlag] == id) {
			err = errors.Join(err, w.removeStageImage(img))
		}
	}
	return err
}

// removeStageImage removes an image but none of its layers, which the store would
// take along if nothing else stood on them. One that is in use stays.
func (w *works) removeStageImage(img storage.Image) (failed error) {
	if w.finished(img.ID) {
		return nil // a build has made the same image since
	}
	if img.TopLayer != "" {
		guard, err := w.announce(stringid.GenerateRandomID())
		if err != nil {
			return err
		}
		defer func() { failed = errors.Join(failed, guard.release()) }()
		if _, err := w.store.CreateLayer(guard.id, img.TopLayer, nil, "", true, hostIDs()); err != nil && !unknownLayer(err) {
			return err
		}
	}
	_, err := w.store.DeleteImage(img.ID, true)
	if errors.Is(err, storage.ErrImageUsedByContainer) || errors.Is(err, storage.ErrImageUnknown) {
		return nil
	}
	return err
}

// finishedImage reports whether an image is the result of a build.
func (b *Builder) finishedImage(id string) bool {
	steps, err := b.steps.All()
	return err != nil || slices.ContainsFunc(steps, func(s cache.Finished) bool { return s.Record.ImageID == id })
}

// forFailedStep reports whether an image is of no use but to the container of a
// failed step.
func forFailedStep(img *storage.Image) bool {
	_, flagged := img.Flags[stageFlag]
	return flagged && len(img.Names) == 0
}
