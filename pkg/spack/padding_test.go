package spack_test

import (
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// What Spack's own output says for the same paths (padding_filter in its
// util/path.py).
func TestShortenPadding(t *testing.T) {
	const placeholder = "/__spack_path_placeholder__"
	for path, want := range map[string]string{
		"/usr/lib/libc.so": "/usr/lib/libc.so",
		"/opt/software" + strings.Repeat(placeholder, 4) + "/__spac/linux/pdi-1": "/opt/software/[padded-to-128-chars]/linux/pdi-1",
		"/opt" + placeholder:             "/opt/[padded-to-31-chars]",
		"/opt" + placeholder + "/bin/sh": "/opt/[padded-to-31-chars]/bin/sh",
		"/opt" + placeholder + "/_":      "/opt/[padded-to-33-chars]",
		"/opt/__spack/bin":               "/opt/__spack/bin",
	} {
		if got := spack.ShortenPadding(path); got != want {
			t.Errorf("%s\n is shown as %s,\n      want %s", path, got, want)
		}
	}
}
