//go:build cgo && !(containers_image_openpgp && exclude_graphdriver_btrfs)

package buildtags

/*
#error "pdibuild needs build tags: go build -tags 'containers_image_openpgp exclude_graphdriver_btrfs' ./cmd/pdibuild (or run hack/demo, which sets them)"
*/
import "C"
