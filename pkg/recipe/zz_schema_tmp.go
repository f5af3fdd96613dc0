package recipe

// Schema is being generated.
func Schema() []byte { return []byte("{}") }
