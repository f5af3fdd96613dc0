package builder

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/internal/buildcontext"
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
	file, err := x.run.b.downloads().Get(ctx, source, strings.TrimPrefix(step.Checksum, "sha256:"))
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	c.source = source
	hdr := regular(c.name(&buildcontext.Match{Name: u.Path}, "."), info.Size())
	hdr.ModTime = x.run.plan.time()
	return c.add(layer.Entry{Header: hdr, Open: layer.File(file)})
}

// downloads are the files that copy steps have fetched.
func (b *Builder) downloads() buildcontext.Downloads {
	return buildcontext.Downloads{Dir: filepath.Join(b.cacheDir, "downloads"), Temporary: b.works.begin, Warn: b.notices.add}
}
