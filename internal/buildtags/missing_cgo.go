//go:build !cgo

package buildtags

import _ "embed"

//go:embed "pdibuild needs cgo: install gcc, set CGO_ENABLED=1 and repeat the command"
var _ string
