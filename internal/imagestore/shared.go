package imagestore

import (
	"sync"

	"go.podman.io/storage"
)

// openStores are the stores that this process uses. The storage
// library keeps a list of all stores for the whole process and gives everybody
// the same one for the same directories. So only the last one to close may shut
// it down, which removes what is being staged, and takes it off the list.
var openStores = struct {
	sync.Mutex
	by map[storage.Store]*openedStore
	// lost are those that can't be used again by this process, by graph root.
	lost map[string]error
}{by: map[storage.Store]*openedStore{}, lost: map[string]error{}}

type openedStore struct {
	*Store
	users int
}

// openShared opens a store, or gives the one that is open. lost is called when
// it can be used no more, and may be nil; try is the store's.
func openShared(so storage.StoreOptions, lost func(error), try func() error) (*Store, error) {
	openStores.Lock()
	defer openStores.Unlock()
	if err := openStores.lost[so.GraphRoot]; err != nil {
		return nil, err
	}
	g := newStore()
	store, err := getStore(g, so)
	if err != nil && forgetRefusal(so) {
		store, err = getStore(g, so)
	}
	if gone := g.isLost(); gone != nil {
		openStores.lost[so.GraphRoot] = gone
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	opened := openStores.by[store]
	if opened == nil {
		g.Store, g.try = store, try
		opened = &openedStore{Store: g}
		openStores.by[store] = opened
	}
	if gone := opened.isLost(); gone != nil {
		return nil, gone
	}
	opened.users++
	opened.onLost(lost)
	return opened.Store, nil
}

func getStore(g *Store, so storage.StoreOptions) (storage.Store, error) {
	return guarded(g, func() (storage.Store, error) { return storage.GetStore(so) })
}

// Close ends one use of the store; the last one shuts it down. A store that
// others have layers of in use says so with storage.ErrLayerUsedByContainer.
func (g *Store) Close() error {
	openStores.Lock()
	defer openStores.Unlock()
	opened := openStores.by[g.Store]
	opened.users--
	if opened.users > 0 {
		return nil
	}
	delete(openStores.by, g.Store)
	_, err := g.Shutdown(false)
	if gone := g.isLost(); gone != nil {
		openStores.lost[g.GraphRoot()] = gone
	}
	g.Free()
	return err
}
