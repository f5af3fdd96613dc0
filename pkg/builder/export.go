package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/outfile"
	"github.com/pdidev/pdibuild/internal/spelling"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// An ExportDestination is a file or directory that an image can be written to.
type ExportDestination struct {
	transport, path, name string
	// named says that there is a name, also an empty one.
	named bool
	// file is where an archive goes.
	file outfile.Place
}

// exportFormats are the transports that Export writes.
func exportFormats() []string { return []string{"oci-archive", "oci", "docker-archive", "dir"} }

func (d *ExportDestination) isArchive() bool { return strings.HasSuffix(d.transport, "-archive") }

// IsStdout reports whether an archive goes to standard output.
func (d *ExportDestination) IsStdout() bool { return d.isArchive() && d.file.IsStdout() }

// Replaces reports whether there is a file that the archive will replace.
func (d *ExportDestination) Replaces() bool { return d.isArchive() && d.file.Replaces() }

// Same reports whether two destinations are one file or one directory that holds
// one image.
func (d *ExportDestination) Same(e *ExportDestination) bool {
	if d.isArchive() && e.isArchive() {
		return d.file.Same(e.file)
	}
	return d.isArchive() == e.isArchive() && filepath.Clean(d.path) == filepath.Clean(e.path) && (d.transport != "oci" || e.transport != "oci" || d.name == e.name)
}

// FindExport reads a destination as Export takes it, and finds out, without
// changing anything, whether an image can be written there. The error is an
// *InputError.
func FindExport(text string) (*ExportDestination, error) {
	transport, rest, ok := strings.Cut(text, ":")
	if !ok {
		hint := fmt.Sprintf("write oci-archive:%s or docker-archive:%s for a file, oci:%s for a directory", text, text, text)
		if text == "-" {
			hint = "write docker-archive:- or oci-archive:-"
		}
		return nil, &InputError{Err: fmt.Errorf("%q does not say in which format to write", text), Hint: hint}
	}
	if known := exportFormats(); !slices.Contains(known, transport) {
		hint := "formats are " + strings.Join(known, ", ")
		if near := spelling.Closest(transport, known); near != "" {
			hint = fmt.Sprintf("did you mean %s? %s", near, hint)
		}
		in := &InputError{Err: fmt.Errorf("unknown format %q", transport), Hint: hint}
		if transport == "docker" {
			in.Hint, in.Code = "Push sends an image to a registry", fail.NoExportFormat
		}
		return nil, in
	}
	d := &ExportDestination{transport: transport}
	d.path, d.name, d.named = strings.Cut(rest, ":")
	if transport == "dir" { // it has no name
		d.path, d.name, d.named = rest, "", false
	}
	if d.path == "" {
		return nil, &InputError{Err: fmt.Errorf("%q names no path", text), Hint: fmt.Sprintf("write %s:PATH", transport)}
	}
	return d, d.find()
}

// find looks at the place.
func (d *ExportDestination) find() (err error) {
	if !d.isArchive() {
		return d.findDirectory()
	}
	if d.path == "-" {
		d.file, err = outfile.Stdout()
	} else {
		d.file, err = outfile.Find(d.path)
	}
	var bad *outfile.Error
	if errors.As(err, &bad) {
		hint := bad.Hint
		if info, err := os.Stat(d.path); err == nil && info.IsDir() {
			hint = fmt.Sprintf("name a file in it, such as %s:%s", d.transport, filepath.Join(d.path, "image.tar"))
		}
		return &InputError{Err: bad, Hint: hint}
	}
	return err
}

// findDirectory looks at a directory, which may not be there.
func (d *ExportDestination) findDirectory() error {
	if d.path == "-" {
		return &InputError{Err: fmt.Errorf("%s is a directory, which cannot be written to standard output", d.transport), Hint: fmt.Sprintf("write %s-archive:-", d.transport)}
	}
	dir, err := nearestThere(d.path)
	if err != nil {
		return &InputError{Err: err, Hint: "correct the path"}
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return &InputError{Err: fmt.Errorf("%s is not a directory", dir), Hint: "correct the path"}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &InputError{Err: fmt.Errorf("nothing can be written to %s: %w", dir, err), Hint: "choose a directory that you may write to"}
	}
	if d.transport == "dir" && dir == d.path {
		return onlyImage(dir)
	}
	return nil
}

// nearestThere is path, or the directory above it that exists.
func nearestThere(path string) (string, error) {
	for {
		_, err := os.Stat(path)
		if err == nil || path == filepath.Dir(path) {
			return path, err
		}
		if _, link := os.Lstat(path); link == nil {
			return "", fmt.Errorf("%s is a link that leads nowhere: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}

// onlyImage: what is in a directory of the format dir is removed.
func onlyImage(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &InputError{Err: err, Hint: "choose another directory"}
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "version" }) {
		return &InputError{Err: fmt.Errorf("%s has files that belong to no image", dir), Hint: "choose a new directory: format dir replaces all that is in it"}
	}
	return nil
}

// Export writes an image of the store to a file or directory. Destination is
// oci-archive:FILE[:NAME], oci:DIR[:NAME], docker-archive:FILE[:NAME] or
// dir:DIR. FILE may be a link, a named pipe or /dev/fd/N; "-" is standard output.
//
// A file keeps its old content until the archive is complete, so after an error
// it still has it. An image in a layout (oci) is added to those that are in it.
func (b *Builder) Export(ctx context.Context, image, to string, opt PushOptions) error {
	op := fmt.Sprintf("export %s to %s", image, to)
	opt.to = to
	err := b.export(ctx, image, opt)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var host *HostError
	if err = b.hostCause(op, err); errors.As(err, &host) {
		return err
	}
	if errors.Is(err, unix.EPIPE) {
		err = fmt.Errorf("the program that reads it has ended: %w", err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

func (b *Builder) export(ctx context.Context, image string, opt PushOptions) error {
	img, err := b.findImage(image)
	if err != nil {
		return err
	}
	d, err := FindExport(opt.to)
	if err != nil {
		return err
	}
	switch d.transport {
	case "docker-archive":
		if layers, err := b.layers(img.TopLayer); err == nil { // else sending it says why
			b.warnLayers(img.ID, len(layers), opt.Events)
		}
		return b.exportDocker(ctx, img, d, opt)
	case "oci-archive":
		return b.exportOCI(ctx, img, d, opt)
	case "oci":
		return b.exportLayout(ctx, img, d, opt)
	}
	dir, err := filepath.Abs(d.path)
	if err != nil {
		return err
	}
	return b.exportOne(ctx, img, "dir:"+dir, opt)
}

// exportOne writes to what the library calls to.
func (b *Builder) exportOne(ctx context.Context, img *storage.Image, to string, opt PushOptions) error {
	ref, err := alltransports.ParseImageName(to)
	if err != nil {
		return &InputError{Err: err, Hint: "a name looks like name:tag"}
	}
	_, err = b.send(ctx, img.ID, ref, opt)
	return err
}

// exportLayout adds the image to a directory.
func (b *Builder) exportLayout(ctx context.Context, img *storage.Image, d *ExportDestination, opt PushOptions) (err error) {
	dir, err := filepath.Abs(d.path)
	if err != nil {
		return err
	}
	unlock, err := lockLayout(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := openLayout(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	opt.blobs = w.blobs
	if err := b.exportOne(ctx, img, "oci:"+w.staged+d.suffix(), opt); err != nil {
		return err
	}
	return w.commit()
}

// suffix is the name as it stands behind a path.
func (d *ExportDestination) suffix() string {
	if d.named {
		return ":" + d.name
	}
	return ""
}

// exportOCI writes a layout and then its archive: the sizes of blobs come first
// in it.
func (b *Builder) exportOCI(ctx context.Context, img *storage.Image, d *ExportDestination, opt PushOptions) (err error) {
	scratch, err := b.works.begin()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(scratch, "export-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.exportOne(ctx, img, "oci:"+dir+d.suffix(), opt); err != nil {
		return err
	}
	return writeOutput(ctx, d.file, func(w io.Writer) error { return archiveLayout(w, dir) })
}

// archiveLayout writes a layout as an archive, the same one every time. What a
// reader needs first comes first.
func archiveLayout(to io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	w := tar.NewWriter(to)
	for _, name := range []string{v1.ImageLayoutFile, v1.ImageIndexFile, v1.ImageBlobsDir} {
		err := fs.WalkDir(root.FS(), name, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return archiveFile(w, root, name)
		})
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func archiveFile(w *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}
	if info.IsDir() {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: h.ModTime})
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// exportDocker has the library write to a pipe: it takes only a path, and does
// not tell an error of the destination from one of its temporary files.
func (b *Builder) exportDocker(ctx context.Context, img *storage.Image, d *ExportDestination, opt PushOptions) error {
	if !d.named && len(img.Names) > 0 {
		d.name, d.named = img.Names[0], true
	}
	return writeOutput(ctx, d.file, func(to io.Writer) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sent := make(chan error, 1)
		go func() {
			err := b.exportOne(ctx, img, fmt.Sprintf("docker-archive:/proc/self/fd/%d%s", w.Fd(), d.suffix()), opt)
			sent <- errors.Join(err, w.Close())
		}()
		_, err = io.Copy(to, r)
		if err != nil {
			cancel()
			_, _ = io.Copy(io.Discard, r) // until the library has noticed
		}
		if sending := <-sent; err == nil {
			err = sending
		}
		return err
	})
}

// writeOutput writes to a destination; it is complete when fill returns nil.
func writeOutput(ctx context.Context, to outfile.Place, fill func(io.Writer) error) error {
	w, err := to.Create(ctx)
	if err != nil {
		return err
	}
	if err := fill(w); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Commit()
}
