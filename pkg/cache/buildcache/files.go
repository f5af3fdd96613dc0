package buildcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/registry"
	"github.com/pdidev/pdibuild/internal/rootfs"
)

// A fileInfo is what is known about a file.
type fileInfo struct {
	size     int64 // -1 if the server does not say
	modified time.Time
}

// files is a tree of files to read from. Paths have slashes and are relative.
type files interface {
	open(ctx context.Context, path string) (io.ReadCloser, fileInfo, error)
	stat(ctx context.Context, path string) (fileInfo, error)
	// walk returns the files below dir whose names have one of the suffixes.
	walk(ctx context.Context, dir string, suffixes ...string) ([]string, error)
}

// localFiles are files of this host, below a directory.
type localFiles struct {
	root string
	// confined: see Options.Confined.
	confined bool
}

func (l localFiles) open(ctx context.Context, name string) (io.ReadCloser, fileInfo, error) {
	t, err := l.enter()
	if err != nil {
		return nil, fileInfo{}, notFound(err)
	}
	defer t.Close()
	f, err := rootfs.OpenRegular(t, name)
	if err != nil {
		return nil, fileInfo{}, l.explain(t, name, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fileInfo{}, errors.Join(err, f.Close())
	}
	return &localFile{f, ctx}, fileInfo{st.Size(), st.ModTime().UTC()}, nil
}

// A localFile ends when its user gives up, as what comes over a network does.
type localFile struct {
	*os.File
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to learn it
}

// Read implements io.Reader.
func (f *localFile) Read(p []byte) (int, error) {
	if f.ctx.Err() != nil {
		return 0, context.Cause(f.ctx)
	}
	return f.File.Read(p)
}

// WriteTo hides the one of os.File, which does not stop.
func (f *localFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f})
}

func (l localFiles) stat(_ context.Context, name string) (fileInfo, error) {
	t, err := l.enter()
	if err != nil {
		return fileInfo{}, notFound(err)
	}
	defer t.Close()
	st, err := t.Stat(name)
	if err != nil {
		return fileInfo{}, l.explain(t, name, err)
	}
	return fileInfo{st.Size(), st.ModTime().UTC()}, nil
}

func (l localFiles) walk(ctx context.Context, dir string, suffixes ...string) ([]string, error) {
	t, err := l.enter()
	if err != nil {
		return nil, notFound(err)
	}
	defer t.Close()
	if _, err := t.Stat(dir); err != nil {
		return nil, l.explain(t, dir, err)
	}
	var found []string
	err = fs.WalkDir(t.FS(), dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return passedOver(err)
		}
		if d.IsDir() || !hasSuffix(d.Name(), suffixes) || strings.HasPrefix(d.Name(), ".") || l.confined && !d.Type().IsRegular() {
			return ctx.Err()
		}
		found = append(found, path)
		return nil
	})
	return found, err
}

// passedOver is nil for a file that is gone meanwhile, and for one with a name
// that is not UTF-8, which no writer of a cache gives.
func passedOver(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil
	}
	return err
}

func hasSuffix(name string, suffixes []string) bool {
	for _, s := range suffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return len(suffixes) == 0
}

// notFound makes ErrNotFound of the file system's.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// webFiles are files of a web server.
type webFiles struct {
	root   *url.URL
	client *registry.Client
	t      *registry.Transport
	creds  CredentialFunc
}

func (w *webFiles) open(ctx context.Context, name string) (io.ReadCloser, fileInfo, error) {
	var info fileInfo
	body, err := openStream(ctx, w.t, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		resp, err := w.request(ctx, http.MethodGet, name, offset)
		if err != nil {
			return nil, err
		}
		if offset == 0 {
			info = infoOf(resp)
		}
		return resp.Body, nil
	})
	if err != nil {
		return nil, fileInfo{}, err
	}
	return body, info, nil
}

func (w *webFiles) stat(ctx context.Context, name string) (fileInfo, error) {
	resp, err := w.request(ctx, http.MethodHead, name, 0)
	if err != nil {
		return fileInfo{}, err
	}
	return infoOf(resp), resp.Body.Close()
}

func (w *webFiles) walk(context.Context, string, ...string) ([]string, error) {
	return nil, ErrNoListing
}

// request asks for a file from offset on. Credentials go to the server that
// the cache's address names, and to no other that it may lead to.
func (w *webFiles) request(ctx context.Context, method, name string, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, w.root.JoinPath(name).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // a .gz is what we ask for, not a way to send it
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	if w.creds != nil {
		cred, err := w.creds(ctx, w.root.Host, strings.Trim(w.root.Path, "/"))
		if err != nil {
			return nil, fmt.Errorf("credentials for %s: %w", w.root.Host, err)
		}
		if cred.Username != "" {
			req.SetBasicAuth(cred.Username, cred.Password)
		}
	}
	resp, err := w.client.Web(req)
	if err != nil {
		return nil, err
	}
	switch {
	case offset > 0 && resp.StatusCode == http.StatusOK: // it does not do ranges
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
		return resp, nil
	case resp.StatusCode == http.StatusOK, offset > 0 && resp.StatusCode == http.StatusPartialContent:
		return resp, nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("%w: %w", ErrNotFound, registry.NewStatusError(resp))
	}
	return nil, registry.NewStatusError(resp)
}

func infoOf(resp *http.Response) fileInfo {
	info := fileInfo{size: resp.ContentLength}
	if date, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		info.modified = date.UTC()
	}
	return info
}
