//go:build !(containers_image_openpgp && exclude_graphdriver_btrfs)

package buildtags

import _ "embed"

// Go looks for embedded files before it compiles anything, so this is the first
// and the only error that a build without the tags ends with. The compiler's own
// errors, about C headers of libraries that are not used, never come.
//
//go:embed "pdibuild needs build tags: set GOFLAGS=-tags=containers_image_openpgp,exclude_graphdriver_btrfs and repeat the command"
var _ string
