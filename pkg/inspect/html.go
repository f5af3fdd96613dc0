package inspect

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
)

// page is the page without its data.
//
//go:embed page.html
var pageHTML []byte

var dataMark = []byte("{{DATA}}")

// WriteHTML writes one page that needs nothing else: no file, no network. The
// image's texts are in it as JSON in which <, > and & are escaped, and its
// script sets them as texts, never as markup.
func WriteHTML(w io.Writer, img *Image, opt ReportOptions) error {
	opt.Largest = max(opt.Largest, 25)
	data, err := json.Marshal(map[string]any{
		"report": img.Report(opt),
		"trees":  []block{img.layerBlocks(), img.directoryBlocks(), img.packageBlocks()},
	})
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	before, after, _ := bytes.Cut(pageHTML, dataMark)
	for _, part := range [][]byte{before, data, after} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
