package imagestore

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"go.podman.io/storage"
)

// library is what a Store guards. Nobody outside of this package gets past the
// guard, since the name is not exported.
type library = storage.Store

// A Store is an open store of the storage library, whose calls it guards: when
// the library panics the store is lost, and every call fails at once, also one
// that waits for a lock.
//
// Each call that may lock has a goroutine of its own for that; those of a lost
// store that wait stay until the program ends. Methods that are not in calls.go
// are the library's: nothing in this program calls those that may lock.
type Store struct {
	library
	// users is how often this process has it open; see openStores.
	users int
	// try mounts an overlay on the store's disk.
	try func() error

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
func (s *Store) onLost(tell func(error)) {
	if tell == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		go tell(s.err)
		return
	}
	s.tell = append(s.tell, tell)
}

// lose makes all calls fail from now on.
func (s *Store) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	for _, tell := range s.tell {
		go tell(err)
	}
	close(s.gone)
}

// isLost returns why the store is lost, nil when it isn't.
func (s *Store) isLost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// guarded is what a call returns, or that the store is lost.
func guarded[T any](s *Store, call func() (T, error)) (T, error) {
	var none T
	if err := s.isLost(); err != nil {
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
				s.lose(lockFailure(p))
			}
		}()
		value, err := call()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-s.gone:
	}
	select {
	case a := <-done:
		return a.value, a.err
	case <-time.After(lostStoreGrace):
		return none, s.isLost()
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

func (s *Store) do(call func() error) error {
	_, err := guarded(s, func() (struct{}, error) { return struct{}{}, call() })
	return err
}
