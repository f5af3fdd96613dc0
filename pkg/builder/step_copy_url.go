package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// copyURL adds a file from the web. It is kept on the host under its
// checksum, so it is fetched once.
func (x *stepRun) copyURL(ctx context.Context, c *copier, step recipe.Copy) error {
	source := step.Sources[0]
	u, err := url.Parse(source)
	if err != nil {
		return &InputError{Subject: source, Err: err}
	}
	if c.intoDir && strings.Trim(u.Path, "/") == "" {
		return &InputError{Subject: source, Err: errors.New("the address does not name a file, and the destination is a directory"), Hint: "name the file in the destination, such as 'to: " + step.To + "/NAME'"}
	}
	file, err := x.run.b.download(ctx, source, strings.TrimPrefix(step.Checksum, "sha256:"))
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	c.source = source
	hdr := regular(c.name(&match{name: u.Path}, "."), info.Size())
	hdr.ModTime = x.run.plan.time()
	return c.add(layer.Entry{Header: hdr, Open: layer.File(file)})
}

// download returns a file whose SHA-256 is want.
func (b *Builder) download(ctx context.Context, source, want string) (string, error) {
	dir := filepath.Join(b.cacheDir, "downloads")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, want)
	got, err := fileSHA256(file)
	if err == nil && got == want {
		markUsed(file)
		return file, nil
	}
	if err == nil {
		b.notices.add(fmt.Sprintf("the download of %s that is kept is damaged; it is fetched again", source))
	}
	temporary, err := b.works.begin()
	if err != nil {
		return "", err
	}
	for attempt := range 3 {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return "", context.Cause(ctx)
			case <-time.After(time.Duration(attempt) * 2 * time.Second):
			}
		}
		if err = fetch(ctx, source, destination{file, temporary}, want); err == nil {
			return file, nil
		}
		var in *InputError
		if errors.As(err, &in) {
			return "", err
		}
	}
	return "", fmt.Errorf("fetch %s: %w", source, err)
}

// A destination is a file that is made in a directory for temporary ones.
type destination struct{ file, temporary string }

// fetch gets source once. An answer that will not change is an *InputError.
func fetch(ctx context.Context, source string, to destination, want string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return &InputError{Subject: source, Err: err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
		return &InputError{Subject: source, Err: errors.New(resp.Status), Hint: "check the address"}
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	tmp, err := os.CreateTemp(to.temporary, "download-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, h), resp.Body)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return &InputError{Subject: source, Err: fmt.Errorf("has checksum sha256:%s, not sha256:%s", got, want), Hint: "if the file was meant to change, put the new checksum into the recipe; otherwise do not trust it"}
	}
	return os.Rename(tmp.Name(), to.file)
}

func fileSHA256(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := readSHA256(f)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum[:]), nil
}

func readSHA256(r io.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
