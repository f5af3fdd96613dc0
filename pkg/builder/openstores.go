package builder

import (
	"sync"

	"go.podman.io/storage"
)

// openStores counts the Builders of each store in this process. The storage
// library keeps a list of all stores for the whole process and gives everybody
// the same one for the same directories. So only the last one to close may shut
// it down, which removes what is being staged, and takes it off the list.
var openStores = struct {
	sync.Mutex
	users map[storage.Store]int
}{users: map[storage.Store]int{}}

func openStore(so storage.StoreOptions) (storage.Store, error) {
	openStores.Lock()
	defer openStores.Unlock()
	store, err := storage.GetStore(so)
	if err != nil && forgetRefusal(so) {
		store, err = storage.GetStore(so)
	}
	if err == nil {
		openStores.users[store]++
	}
	return store, err
}

func closeStore(store storage.Store) error {
	openStores.Lock()
	defer openStores.Unlock()
	openStores.users[store]--
	if openStores.users[store] > 0 {
		return nil
	}
	delete(openStores.users, store)
	_, err := store.Shutdown(false)
	store.Free()
	return err
}
