package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/oci/layout"

	"github.com/pdidev/pdibuild/internal/hosthelp"
)

// An image that is not what it should be is an error of the input, and says what
// can be done; other errors stay what they are.
func TestBaseErrors(t *testing.T) {
	for _, test := range []struct {
		err           error
		message, hint string
	}{
		{&platformError{v1.Platform{OS: "linux", Architecture: "arm64"}, "linux/amd64"}, "the image is for linux/arm64, not linux/amd64", "platform: linux/arm64"},
		{&platformError{v1.Platform{}, "linux/amd64"}, "does not name the system and the processor", "damaged"},
		{errors.New("unexpected end of JSON input"), "unexpected end of JSON input", "damaged"},
		{&InputError{Subject: "base image", Err: errors.New("a zero byte")}, "base image: a zero byte", ""},
	} {
		err := baseError("oci:dir", test.err)
		var input *InputError
		if !errors.As(err, &input) || input.Subject != "from oci:dir" || !strings.Contains(err.Error(), test.message) || !strings.Contains(input.Hint, test.hint) {
			t.Errorf("%v becomes %v with the hint %q, want %q and %q", test.err, err, input.Hint, test.message, test.hint)
		}
	}
	for _, err := range []error{nil, errNotLocal, hostError("look", os.ErrNotExist, hosthelp.Disk), &RegistryError{Err: os.ErrNotExist}} {
		if got := baseError("x", err); got != err {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	if err := baseError("x", &platformError{}); !errors.Is(err, errOtherPlatform) {
		t.Errorf("%v is not about the platform any more", err)
	}
}

// What is wrong with an archive or a layout has a hint that fits.
func TestFileImageHints(t *testing.T) {
	dir := t.TempDir()
	index := func(name, manifests string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "index.json"), []byte(`{"schemaVersion":2,"manifests":[`+manifests+`]}`), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const one = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`
	two := index("two", one+`,"annotations":{"org.opencontainers.image.ref.name":"blue"}},`+one+`}`)
	none := index("none", "")
	for _, test := range []struct{ name, err, hint string }{
		{"oci:" + two, layout.ErrMoreThanOneImage.Error(), "oci:" + two + ":@1; there are blue, @1"},
		{"oci:" + none, layout.ErrMoreThanOneImage.Error(), "there is no image in it"},
		{"docker-archive:" + two, "Unexpected tar manifest.json: expected 1 item, got 2", "docker-archive:" + two + ":NAME"},
		{"docker-archive:" + two, "Unexpected tar manifest.json: expected 1 item, got 0", "there is no image in it"},
		{"docker-archive:" + two + ":red", `Tag "red" not found`, "check what stands behind the path"},
		{"oci-archive:" + dir + "/missing.tar", "no such file", "check the path"},
		{"oci:" + two, "unexpected end of JSON input", "damaged"},
	} {
		err := fmt.Errorf("read it: %w", errors.New(test.err))
		if test.err == layout.ErrMoreThanOneImage.Error() {
			err = fmt.Errorf("read it: %w", layout.ErrMoreThanOneImage)
		}
		if got := fileImageHint(test.name, err); !strings.Contains(got, test.hint) {
			t.Errorf("%s, %s: the hint is %q, want %q", test.name, test.err, got, test.hint)
		}
	}
}
