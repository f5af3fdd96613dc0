//go:build !cgo

package buildtags

// The compiler's message about this name is the message to the reader.
var _ = pdibuild_needs_cgo_install_gcc_and_set_CGO_ENABLED_to_1 //nolint:revive // it is a sentence
