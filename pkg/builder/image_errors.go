package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/oci/layout"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// errOtherPlatform says that a local image is not for the wanted platform.
var errOtherPlatform = errors.New("another platform")

// A platformError is errOtherPlatform with both.
type platformError struct {
	has  v1.Platform
	want string
}

func (e *platformError) Error() string {
	if e.has.OS == "" || e.has.Architecture == "" {
		return "its configuration does not name the system and the processor that it is for"
	}
	return fmt.Sprintf("the image is for %s/%s, not %s", e.has.OS, e.has.Architecture, e.want)
}

// Is makes it an errOtherPlatform.
func (e *platformError) Is(target error) bool { return target == errOtherPlatform }

// input is the error about a stage that starts from the image.
func (e *platformError) input(from string) *InputError {
	if e.has.OS == "" || e.has.Architecture == "" {
		return &InputError{Subject: "from " + from, Err: e, Hint: "the image is damaged, or no image to run: take another one, or make it anew"}
	}
	has := e.has.OS + "/" + e.has.Architecture
	return &InputError{
		Subject: "from " + from, Err: e, Code: fail.OtherPlatform, Data: fail.Data{"want": e.want, "has": has},
		Hint: fmt.Sprintf("take an image for %s; to build for the image's platform, write 'platform: %s' in the stage", e.want, has),
	}
}

const missingHint = "check the path"

const damagedHint = "the image is damaged, or files in it would be outside of it: make it anew, or take another one"

// baseError says that an error is about the image that a stage starts from. One
// that says what else is wrong stays as it is.
func baseError(from string, err error) error {
	var input *InputError
	var host *HostError
	var registry *RegistryError
	var platform *platformError
	switch {
	case err == nil, errors.Is(err, errNotLocal), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &platform):
		return platform.input(from)
	case errors.As(err, &input) && !strings.HasPrefix(input.Subject, "from "):
		return &InputError{Subject: "from " + from, Err: input, Hint: input.Hint}
	case errors.As(err, &input), errors.As(err, &host), errors.As(err, &registry):
		return err
	}
	return &InputError{Subject: "from " + from, Err: err, Hint: damagedHint}
}

// imageError says that an image outside of the store, named TRANSPORT:…, cannot
// be read.
func imageError(name string, err error) error {
	var input *InputError
	rest, registry := strings.CutPrefix(name, "docker://")
	switch {
	case errors.As(err, &input):
		return &InputError{Subject: "image " + name, Err: input, Hint: input.Hint}
	case registry:
		return imagetransfer.Error("read", rest, err)
	}
	return &InputError{Subject: "image " + name, Err: err, Hint: fileImageHint(name, err)}
}

var (
	noOrSeveral = regexp.MustCompile(`expected 1 item, got (\d+)$`)
	noSuchImage = regexp.MustCompile(`^Tag .* not found$|Invalid source index|no descriptor found|index .* too large`)
)

// fileImageHint says what to do about an image in a directory or archive, named
// TRANSPORT:PATH[:NAME], that cannot be read.
func fileImageHint(name string, err error) string {
	transport, rest, _ := strings.Cut(name, ":")
	path, _, _ := strings.Cut(rest, ":")
	inner := err
	for next := errors.Unwrap(inner); next != nil; next = errors.Unwrap(inner) {
		inner = next
	}
	var missing layout.ImageNotFoundError
	items := noOrSeveral.FindStringSubmatch(inner.Error())
	_, statErr := os.Stat(path)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return missingHint
	case errors.Is(err, layout.ErrMoreThanOneImage), items != nil && items[1] != "0":
		return severalHint(transport, path)
	case items != nil:
		return "there is no image in it: make it anew, or take another one"
	case errors.As(err, &missing), noSuchImage.MatchString(inner.Error()):
		return "check what stands behind the path: " + severalHint(transport, path)
	case errors.Is(err, fs.ErrPermission):
		return "check who owns " + path + " and its permissions"
	}
	return damagedHint
}

// severalHint says how one of several images is chosen.
func severalHint(transport, path string) string {
	names := imagesIn(transport, path)
	if names != nil && len(names) == 0 {
		return "there is no image in it: make it anew, or take another one"
	}
	hint := fmt.Sprintf("choose one of the images with its name, %s:%s:NAME, or with its number from 0, such as %s:%s:@1", transport, path, transport, path)
	const most = 5
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	if len(names) > 0 {
		hint += "; there are " + strings.Join(names, ", ")
	}
	return hint
}

// imagesIn are the images of a layout: their names, or their numbers. It is nil
// for other transports, and if it cannot be read.
func imagesIn(transport, path string) []string {
	if transport != layout.Transport.Name() {
		return nil
	}
	list, err := layout.List(path)
	if err != nil {
		return nil
	}
	names := []string{}
	for i, image := range list {
		name := image.ManifestDescriptor.Annotations[v1.AnnotationRefName]
		if name == "" {
			name = fmt.Sprintf("@%d", i)
		}
		names = append(names, name)
	}
	return names
}

// idPattern is what an image's id looks like, whole or shortened as 'pdibuild
// images' prints it.
var idPattern = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|[0-9a-f]{12,64})$`)

// imageID is the id of an image of the store that name is the beginning of.
func (b *Builder) imageID(name string) (id string, ok bool) {
	if !idPattern.MatchString(name) {
		return "", false
	}
	img, err := b.store.Image(strings.TrimPrefix(name, "sha256:"))
	if err != nil {
		return "", false
	}
	return img.ID, true
}
