package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A Fault is something that goes wrong between a registry and its users.
type Fault struct {
	// Match chooses the requests that it happens to; nil chooses all.
	Match func(*http.Request) bool
	// Times is how many of them it happens to; 0 is all.
	Times int64
	// Status is answered instead of passing the request on.
	Status int
	// Cut ends the connection after so many bytes of the body, in either
	// direction; 0 does not.
	Cut int64
	// Stall lets the body wait for so long in the middle.
	Stall time.Duration
	// Change replaces the last byte of an answer's body by another one.
	Change bool
}

// A Faulty is a registry behind a proxy that makes faults.
type Faulty struct {
	// Addr is HOST:PORT.
	Addr string
	// Made counts the faults.
	Made  atomic.Int64
	fault atomic.Pointer[Fault]
	seen  atomic.Int64
}

// StartFaulty puts a proxy before the registry at addr, until the test ends.
func StartFaulty(t *testing.T, addr string) *Faulty {
	t.Helper()
	f := &Faulty{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	rewrite := proxy.Director
	proxy.Director = func(r *http.Request) {
		host := r.Host
		rewrite(r)
		r.Host = host // so that the registry names us in Location
	}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy.ModifyResponse = func(r *http.Response) error {
		if fault, ok := r.Request.Context().Value(faultKey{}).(*Fault); ok && r.Request.Method == http.MethodGet {
			r.Body = &faultyBody{ReadCloser: r.Body, fault: fault, left: r.ContentLength, ctx: r.Request.Context}
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault := f.fault.Load()
		if fault == nil || fault.Match != nil && !fault.Match(r) || fault.Times > 0 && f.seen.Add(1) > fault.Times {
			proxy.ServeHTTP(w, r)
			return
		}
		f.Made.Add(1)
		if fault.Status != 0 {
			w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
			w.WriteHeader(fault.Status)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), faultKey{}, fault))
		if r.Method != http.MethodGet {
			r.Body = &faultyBody{ReadCloser: r.Body, fault: fault, left: r.ContentLength, ctx: r.Context}
		}
		proxy.ServeHTTP(w, r)
	}))
	f.Addr = server.Listener.Addr().String()
	t.Cleanup(server.Close)
	return f
}

// Set chooses what goes wrong from now on; nil is nothing.
func (f *Faulty) Set(fault *Fault) {
	f.seen.Store(0)
	f.fault.Store(fault)
}

type faultKey struct{}

// A faultyBody is the body of a request or an answer.
type faultyBody struct {
	io.ReadCloser
	fault *Fault
	read  int64
	// left is how much of the body is to come; negative when nobody knows.
	left int64
	ctx  func() context.Context
}

var errCut = errors.New("the connection is cut")

// Read reads until the fault.
func (b *faultyBody) Read(p []byte) (int, error) {
	if b.fault.Cut > 0 {
		if b.read >= b.fault.Cut {
			return 0, errCut
		}
		p = p[:min(int64(len(p)), b.fault.Cut-b.read)]
	}
	if b.fault.Stall > 0 && b.read > 0 {
		select {
		case <-time.After(b.fault.Stall):
		case <-b.ctx().Done():
			return 0, b.ctx().Err()
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.fault.Change && n > 0 && b.read == b.left {
		p[n-1] ^= 1
	}
	return n, err
}
