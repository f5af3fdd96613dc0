package recipe

import (
	_ "embed" // for the schema
	"slices"
)

//go:embed pdibuild.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a recipe file, for editors
// that complete and check YAML. It is generated from the types of this
// package. Parse is stricter: it also checks names and references.
func Schema() []byte { return slices.Clone(schema) }
