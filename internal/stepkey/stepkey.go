// Package stepkey makes the keys under which results are kept: hashes of all
// that a result depends on.
package stepkey

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
)

// version changes when the same step would give another result than an earlier
// version of pdibuild gave.
const version = "pdibuild-2"

// Of hashes the parts, each with its length so that they cannot run into one
// another.
func Of(parts ...string) string { return New(parts...).Text() }

// A Writer makes a key of parts that need not be in memory together.
type Writer struct{ sum hash.Hash }

// New returns a Writer that begins with the parts.
func New(parts ...string) Writer {
	w := Writer{sha256.New()}
	w.Add(version)
	w.Add(parts...)
	return w
}

// Add adds parts.
func (w Writer) Add(parts ...string) {
	for _, p := range parts {
		fmt.Fprintf(w.sum, "%d:%s\n", len(p), p)
	}
}

// Text returns the key.
func (w Writer) Text() string { return hex.EncodeToString(w.sum.Sum(nil)) }

// JSON is the canonical text of plain data for keys: encoding/json sorts map
// keys and writes struct fields in order.
func JSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%#v", v) // not reached: only plain data comes here
	}
	return string(data)
}
