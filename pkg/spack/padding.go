package spack

import (
	"fmt"
	"regexp"
	"strings"
)

// Placeholder is what Spack fills a path with to give it the length that
// config:install_tree:padded_length says. The last one may be cut off.
const Placeholder = "__spack_path_placeholder__"

var padding = regexp.MustCompile(`(/` + Placeholder + `)+(/[_a-z]+)?(/|$)`)

// ShortenPadding returns a path for people to read: as Spack does in its output,
// it puts [padded-to-N-chars] in the place of what pads a prefix to N characters.
// Only the first padded prefix is looked for.
func ShortenPadding(path string) string {
	at := padding.FindStringSubmatchIndex(path)
	if at == nil {
		return path
	}
	end := at[3]
	if at[4] >= 0 && strings.HasPrefix(Placeholder, path[at[4]+1:at[5]]) {
		end = at[5]
	}
	return fmt.Sprintf("%s/[padded-to-%d-chars]%s", path[:at[0]], end, path[end:])
}
