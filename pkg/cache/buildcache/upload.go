package buildcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/pdidev/pdibuild/internal/registry"
)

// fallbackChunk is how much is sent at once to a registry that refused a blob
// in one piece because that was too large for it, or for a proxy before it.
const fallbackChunk = 8 << 20

// put sends a blob: in one piece, or in several where that is asked for or
// nothing else works.
func (r *repository) put(ctx context.Context, b Blob, from content) error {
	chunk := r.chunk.Load()
	if chunk == 0 {
		err := r.putWhole(ctx, b, from)
		if !tooLarge(err) || b.Size <= r.fallback {
			return err
		}
		r.t.Say("%v; sending it in pieces of %d bytes", err, r.fallback)
		r.chunk.Store(r.fallback)
		chunk = r.fallback
	}
	return r.putChunked(ctx, b, from, chunk)
}

func tooLarge(err error) bool {
	var response *errcode.ErrorResponse
	return errors.As(err, &response) && response.StatusCode == http.StatusRequestEntityTooLarge
}

// putChunked sends a blob piece by piece, as the OCI distribution specification
// has it ("Pushing a blob in chunks"). It begins anew if the registry does not
// go on with an upload: when the answer to a piece got lost, docker-registry
// takes the repeated piece for nonsense and throws all away.
func (r *repository) putChunked(ctx context.Context, b Blob, from content, size int64) error {
	for attempt := 0; ; attempt++ {
		err := r.putPieces(ctx, b, from, size)
		var status *StatusError
		lost := errors.As(err, &status) && status.Method != http.MethodPost &&
			(status.Status == http.StatusNotFound || status.Status == http.StatusRequestedRangeNotSatisfiable)
		if !lost {
			return err
		}
		if err := r.t.Again(ctx, attempt, err, "sending it again"); err != nil {
			return err
		}
	}
}

func (r *repository) putPieces(ctx context.Context, b Blob, from content, size int64) error {
	ctx = auth.AppendRepositoryScope(ctx, r.remote.Reference, auth.ActionPull, auth.ActionPush)
	body, err := from()
	if err != nil {
		return err
	}
	defer body.Close()
	whole := verified(b, body)
	location, least, err := r.startUpload(ctx)
	if err != nil {
		return err
	}
	piece := make([]byte, max(1, min(max(size, least), b.Size)))
	for offset := int64(0); ; {
		n, err := io.ReadFull(whole, piece)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if n > 0 {
			if location, err = r.patch(ctx, location, offset, piece[:n]); err != nil {
				return err
			}
			offset += int64(n)
		}
		if last {
			break
		}
	}
	query := location.Query()
	query.Set("digest", b.Digest.String())
	location.RawQuery = query.Encode()
	resp, err := r.ask(ctx, http.MethodPut, location, nil, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return registry.NewStatusError(resp)
	}
	return resp.Body.Close()
}

// startUpload returns where pieces go, and how small they may be.
func (r *repository) startUpload(ctx context.Context) (*url.URL, int64, error) {
	scheme := "https"
	if r.remote.PlainHTTP {
		scheme = "http"
	}
	ref := r.remote.Reference
	start := &url.URL{Scheme: scheme, Host: ref.Host(), Path: "/v2/" + ref.Repository + "/blobs/uploads/"}
	resp, err := r.ask(ctx, http.MethodPost, start, nil, nil)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return nil, 0, registry.NewStatusError(resp)
	}
	defer resp.Body.Close()
	least, _ := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64) // most do not say
	location, err := next(start, resp)
	return location, min(least, 64<<20), err
}

// next is where a registry wants what comes next.
func next(now *url.URL, resp *http.Response) (*url.URL, error) {
	location, err := now.Parse(resp.Header.Get("Location"))
	if err != nil {
		return nil, fmt.Errorf("the registry names no place for an upload: %w", err)
	}
	return location, nil
}

// patch sends one piece.
func (r *repository) patch(ctx context.Context, to *url.URL, offset int64, piece []byte) (*url.URL, error) {
	header := http.Header{
		"Content-Type":  {"application/octet-stream"},
		"Content-Range": {fmt.Sprintf("%d-%d", offset, offset+int64(len(piece))-1)},
	}
	resp, err := r.ask(ctx, http.MethodPatch, to, header, piece)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return nil, registry.NewStatusError(resp)
	}
	defer resp.Body.Close()
	return next(to, resp)
}

func (r *repository) ask(ctx context.Context, method string, to *url.URL, header http.Header, piece []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(piece))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return r.remote.Client.Do(req)
}
