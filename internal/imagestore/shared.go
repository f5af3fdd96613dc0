package imagestore

import (
	"sync"

	"go.podman.io/storage"
)

// openStores are the stores that this process uses. The storage library keeps a
// list of all stores for the whole process and gives everybody the same one for
// the same directories. So only the last one to close may shut it down, which
// removes what is being staged, and takes it off the list.
var openStores = struct {
	sync.Mutex
	by map[storage.Store]*Store
	// lost are those that can't be used again by this process, by graph root.
	lost map[string]error
}{by: map[storage.Store]*Store{}, lost: map[string]error{}}

// openShared opens a store, or gives the one that is open. lost is called when
// it can be used no more, and may be nil; try is the store's.
func openShared(so storage.StoreOptions, lost func(error), try func() error) (*Store, error) {
	openStores.Lock()
	defer openStores.Unlock()
	if err := openStores.lost[so.GraphRoot]; err != nil {
		return nil, err
	}
	s := newStore()
	store, err := getStore(s, so)
	if err != nil && forgetRefusal(so) {
		store, err = getStore(s, so)
	}
	if gone := s.isLost(); gone != nil {
		openStores.lost[so.GraphRoot] = gone
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	opened := openStores.by[store]
	if opened == nil {
		s.library, s.try = store, try
		openStores.by[store], opened = s, s
	}
	if gone := opened.isLost(); gone != nil {
		return nil, gone
	}
	opened.users++
	opened.onLost(lost)
	return opened, nil
}

func getStore(s *Store, so storage.StoreOptions) (storage.Store, error) {
	return guarded(s, func() (storage.Store, error) { return storage.GetStore(so) }) //nolint:forbidigo // this is the guard
}

// Close ends one use of the store; the last one shuts it down. A store that
// others have layers of in use says so with storage.ErrLayerUsedByContainer.
func (s *Store) Close() error {
	openStores.Lock()
	defer openStores.Unlock()
	s.users--
	if s.users > 0 {
		return nil
	}
	delete(openStores.by, s.library)
	_, err := s.Shutdown(false)
	if gone := s.isLost(); gone != nil {
		openStores.lost[s.GraphRoot()] = gone
	}
	s.Free()
	return err
}
