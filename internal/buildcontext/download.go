package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// Downloads are files from the web, kept on the host under their checksums.
type Downloads struct {
	// Dir has the files.
	Dir string
	// Temporary returns a directory for files that are not complete yet.
	Temporary func() (string, error)
	// Warn gets a message about a damaged file.
	Warn func(text string)
}

// attempts are how often a file is asked for, pause how much longer is waited
// before each of them.
const (
	attempts = 3
	pause    = 2 * time.Second
)

// Get returns a file of which the SHA-256 is want. It fetches source where the
// file is not kept.
func (d Downloads) Get(ctx context.Context, source, want string) (string, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(d.Dir, want)
	got, err := fileSHA256(file)
	if err == nil && got == want {
		_ = cache.Touch(file)
		return file, nil
	}
	if err == nil {
		d.Warn(fmt.Sprintf("the download of %s that is kept is damaged; it is fetched again", source))
	}
	temporary, err := d.Temporary()
	if err != nil {
		return "", err
	}
	for attempt := range attempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return "", context.Cause(ctx)
			case <-time.After(time.Duration(attempt) * pause):
			}
		}
		if err = fetch(ctx, source, destination{file, temporary}, want); err == nil {
			return file, nil
		}
		var in *failure.InputError
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
		return &failure.InputError{Subject: source, Err: err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
		return &failure.InputError{Subject: source, Err: errors.New(resp.Status), Hint: "check the address"}
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	tmp, err := os.CreateTemp(to.temporary, "download-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	sum := digest.SHA256.Digester()
	_, err = io.Copy(io.MultiWriter(tmp, sum.Hash()), resp.Body)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if got := sum.Digest().Encoded(); got != want {
		return &failure.InputError{Subject: source, Err: fmt.Errorf("has checksum sha256:%s, not sha256:%s", got, want), Hint: "if the file was meant to change, put the new checksum into the recipe; otherwise do not trust it"}
	}
	return os.Rename(tmp.Name(), to.file)
}

func fileSHA256(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := digest.SHA256.FromReader(f)
	return sum.Encoded(), err
}
