package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/lockfile"
	"github.com/pdidev/pdibuild/pkg/cache"
)

// A layerGraph is the store as pruning sees it. The store is shared with podman
// and others: only layers that steps have made are entries, and whatever else
// stands on one of them keeps it.
type layerGraph struct {
	b      *Builder
	sweep  *cache.Sweep
	layers map[string]*storage.Layer
	// owned are the layers that belong to entries.
	owned map[string]*ownedLayer
	// ours are the ids of images that builds have made.
	ours    map[string]cache.Finished
	images  []storage.Image
	entries []*CacheEntry
}

// An ownedLayer belongs to the entries of the steps that had it as their result.
// Its size counts for the last one of them.
type ownedLayer struct {
	id     string
	size   int64
	owners []*CacheEntry
}

// layerEntries lists steps, images without a name, failed steps, and layers
// that nobody knows any more.
func (b *Builder) layerEntries(ctx context.Context, sweep *cache.Sweep) ([]*CacheEntry, error) {
	g := &layerGraph{b: b, sweep: sweep, layers: map[string]*storage.Layer{}, owned: map[string]*ownedLayer{}, ours: map[string]cache.Finished{}}
	if sweep.Others == 0 {
		b.works.removeAbandoned()
	}
	stored, err := b.store.Layers()
	if err != nil {
		return nil, err
	}
	for i := range stored {
		g.layers[stored[i].ID] = &stored[i]
	}
	if g.images, err = b.store.Images(); err != nil {
		return nil, err
	}
	steps, err := b.steps.All()
	if err != nil {
		return nil, err
	}
	// The size of a layer counts where it was used last.
	slices.SortStableFunc(steps, func(x, y cache.Finished) int { return x.LastUse.Compare(y.LastUse) })
	for _, s := range steps {
		g.addStep(s)
	}
	g.addOrphans()
	for _, l := range g.owned {
		l.owners[len(l.owners)-1].Size += l.size
	}
	for _, e := range g.entries {
		if len(e.layers) > 0 {
			g.stand(e, g.layers[e.layers[0].id].Parent)
		}
	}
	g.addImages()
	if err := g.addOthers(ctx); err != nil {
		return nil, err
	}
	return g.entries, nil
}

// addStep adds a record. That of an image is no entry of its own.
func (g *layerGraph) addStep(s cache.Finished) {
	if s.Damage == nil && s.Record.ImageID != "" && slices.ContainsFunc(g.images, func(i storage.Image) bool { return i.ID == s.Record.ImageID }) {
		if known, ok := g.ours[s.Record.ImageID]; !ok || known.LastUse.Before(s.LastUse) {
			g.ours[s.Record.ImageID] = s
		}
		return
	}
	e := &CacheEntry{Kind: CacheStep, ID: s.Key, key: s.Key, record: s.Record, Text: s.Record.Text, LastUse: s.LastUse}
	g.entries = append(g.entries, e)
	switch {
	case s.Damage != nil:
		e.Useless = fmt.Sprintf("its record is damaged: %v", s.Damage)
	case s.Record.ImageID != "":
		e.Useless = "its image was removed"
	case s.Record.Layer != "" && g.layers[s.Record.Layer] == nil:
		e.Useless = "its layer was removed"
	}
	if e.Useless != "" {
		return
	}
	for _, l := range addedLayers(s.Record) {
		if g.layers[l.ID] == nil {
			e.Useless = "one of its layers was removed"
			continue
		}
		g.own(e, l.ID)
	}
	if !s.Record.Added && s.Record.Layer != "" && g.owned[s.Record.Layer] == nil {
		return
	}
	g.running(e)
}

// own makes a layer one of an entry's.
func (g *layerGraph) own(e *CacheEntry, id string) {
	l := g.owned[id]
	if l == nil {
		l = &ownedLayer{id: id, size: max(g.layers[id].UncompressedSize, 0)}
		g.owned[id] = l
	}
	l.owners, e.layers = append(l.owners, e), append(e.layers, l)
}

// running keeps what a running build may have used.
func (g *layerGraph) running(e *CacheEntry) {
	if !e.LastUse.Before(g.sweep.Since) {
		e.kept(aRunningBuild)
	}
}

// addOrphans adds layers that a step was about to record when it was killed.
func (g *layerGraph) addOrphans() {
	for id, l := range g.layers {
		own, _ := l.Flags[ownFlag].(bool)
		if !own || g.owned[id] != nil {
			continue
		}
		e := &CacheEntry{Kind: CacheLayer, ID: id, Text: "no step is recorded for it", LastUse: l.Created}
		if g.sweep.Others > 0 {
			e.kept(aRunningBuild)
		} else if len(l.Names) > 0 {
			e.kept("its name " + l.Names[0])
		} else {
			e.Useless = "no step is recorded for it"
		}
		g.own(e, id)
		g.entries = append(g.entries, e)
	}
}

// stand notes that e stands on a layer, and so on all entries that have it.
func (g *layerGraph) stand(e *CacheEntry, on string) {
	for id := on; id != "" && g.layers[id] != nil; id = g.layers[id].Parent {
		if l := g.owned[id]; l != nil {
			for _, owner := range l.owners {
				if owner != e {
					e.needs = append(e.needs, owner)
				}
			}
			return
		}
	}
}

// hold notes that something of others stands on a layer.
func (g *layerGraph) hold(on, by string) {
	holder := &CacheEntry{}
	g.stand(holder, on)
	for _, e := range holder.needs {
		e.kept(by)
	}
}

// addImages adds images without a name that builds have made; others hold
// what they stand on.
func (g *layerGraph) addImages() {
	for _, img := range g.images {
		record, ours := g.ours[img.ID]
		if !ours && forFailedStep(&img) {
			continue // its container keeps what it stands on
		}
		if ours && len(img.Names) == 0 {
			e := &CacheEntry{Kind: CacheImage, ID: img.ID, key: record.Key, Text: record.Record.Text, LastUse: record.LastUse}
			if g.owned[img.TopLayer] == nil {
				for id := img.TopLayer; g.layers[id] != nil; id = g.layers[id].Parent {
					e.Size += max(g.layers[id].UncompressedSize, 0)
				}
			}
			g.stand(e, img.TopLayer)
			g.running(e)
			g.entries = append(g.entries, e)
			continue
		}
		name := "image " + img.ID[:min(len(img.ID), 12)]
		if len(img.Names) > 0 {
			name = img.Names[0]
		}
		for _, top := range append([]string{img.TopLayer}, img.MappedTopLayers...) {
			g.hold(top, name)
		}
	}
}

// addOthers adds containers of failed steps, and notes what else stands on our
// layers: containers, and layers that are not ours.
func (g *layerGraph) addOthers(ctx context.Context) error {
	failed := map[string]*CacheEntry{} // by the store's id of the layer
	for _, path := range g.b.failed.records() {
		s, err := g.b.failed.read(path)
		if err != nil || s.Layer == "" {
			continue
		}
		e := &CacheEntry{Kind: CacheFailed, ID: s.Layer, Text: fmt.Sprintf("%s: stage %s, step %d", s.Source, s.Stage, s.Step), LastUse: s.Time, path: path}
		id := s.Layer
		if c := g.b.works.container(id); c != nil {
			id = c.LayerID
		}
		if g.layers[id] == nil {
			e.Useless = "its layer was removed"
		} else if size, err := g.b.store.DiffSize("", id); err == nil {
			e.Size = size
		}
		failed[id] = e
		g.entries = append(g.entries, e)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for id, l := range g.layers {
		switch e, isFailed := failed[id]; {
		case isFailed:
			g.stand(e, l.Parent)
		case g.owned[id] == nil:
			_, err := os.Lstat(filepath.Join(g.b.works.dir, id))
			by := fmt.Sprintf("layer %.12s of another program", id)
			if err == nil {
				by = aRunningBuild
			}
			g.hold(l.Parent, by)
		}
	}
	return g.holdContainers(failed)
}

func (g *layerGraph) holdContainers(failed map[string]*CacheEntry) error {
	containers, err := g.b.store.Containers()
	if err != nil {
		return err
	}
	for _, c := range containers {
		if failed[c.LayerID] != nil {
			continue
		}
		name := "container " + c.ID[:min(len(c.ID), 12)]
		if len(c.Names) > 0 {
			name = "container " + c.Names[0]
		}
		g.hold(c.LayerID, name)
		for _, e := range g.entries {
			if e.Kind == CacheImage && e.ID == c.ImageID {
				e.kept(name)
			}
		}
	}
	return nil
}

// removeLayers removes the layers of an entry that no other one has, the top one
// first. What somebody stands on meanwhile stays: the store refuses to remove it.
func (b *Builder) removeLayers(e *CacheEntry, sweep *cache.Sweep) error {
	for _, l := range slices.Backward(e.layers) {
		if slices.ContainsFunc(l.owners, func(owner *CacheEntry) bool { return owner != e && !owner.removed }) {
			continue
		}
		if err := b.removeLayer(l.id, sweep); err != nil {
			return err
		}
	}
	return nil
}

// removeLayer removes a layer, unless a step takes it at this moment or a running
// build has recorded it.
func (b *Builder) removeLayer(id string, sweep *cache.Sweep) error {
	made, err := b.works.tryReserve(id)
	if err != nil {
		return err
	}
	made.shared = true                    // what cannot be removed stays as it is
	defer func() { _ = made.release() }() // the next build does it
	if sweep.Others > 0 && b.steps.LayersSince(sweep.Since)[id] {
		return lockfile.ErrHeld
	}
	err = b.store.DeleteLayer(id)
	switch {
	case inUse(err):
		return lockfile.ErrHeld
	case err != nil && !unknownLayer(err):
		return err
	}
	return nil
}

// layerThere looks whether a layer's files and their description are there. It
// does not read them: 'pdibuild cache verify' does.
func (b *Builder) layerThere(id string) error {
	driver, err := b.store.GraphDriver()
	if err != nil {
		return err
	}
	if !driver.Exists(id) {
		return errors.New("its files are not there")
	}
	if dir, err := layerDir(b.store, id); err != nil {
		return err
	} else if dir != "" {
		if _, err := os.Stat(dir); err != nil {
			return errors.New("its files are not there")
		}
	}
	info, err := os.Stat(filepath.Join(b.store.GraphRoot(), b.store.GraphDriverName()+"-layers", id+".tar-split.gz"))
	if err != nil || info.Size() == 0 {
		return errors.New("the description of its files is not there")
	}
	return nil
}
