package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// A pushedImage is one name under which an image was pushed.
type pushedImage struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// metadata is what --metadata-file writes: the result, and docker's keys for
// the tools that read those.
type metadata struct {
	*builder.Result
	Pushed       []pushedImage `json:"pushed,omitempty"`
	ConfigDigest string        `json:"containerimage.config.digest"`
	Digest       string        `json:"containerimage.digest"`
	ImageName    string        `json:"image.name,omitempty"`
}

// metadataOf is the content of the file. As with docker, the digest is the one
// that the registry knows when the image was pushed.
func (a *app) metadataOf(result *builder.Result, pushed []pushedImage) ([]byte, error) {
	result = maskedResult(result, a.mask)
	pushed = slices.Clone(pushed)
	for i := range pushed {
		pushed[i].Name = a.mask(pushed[i].Name)
	}
	m := metadata{
		Result: result, Pushed: pushed,
		ConfigDigest: "sha256:" + result.ImageID,
		Digest:       result.Digest,
		ImageName:    strings.Join(result.Names, ","),
	}
	if len(pushed) > 0 {
		m.Digest = pushed[0].Digest
	}
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}
