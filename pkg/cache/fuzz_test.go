package cache

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzRecord checks that a damaged record of a step is refused, and that what is
// read can be written and is then the same.
func FuzzRecord(f *testing.F) {
	whole, err := encodeRecord(Record{Layer: "a", Text: "run make\xff", Data: []byte(`{"a":1}`), Below: []Layer{{ID: "b", DiffID: "sha256:c"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 3)
	f.Add([]byte(`{"layer":"old"}`), 0)
	f.Add([]byte("{}\nsha256:"), 1)
	f.Fuzz(func(t *testing.T, data []byte, flip int) {
		rec, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := encodeRecord(rec)
		if err != nil {
			t.Fatalf("a record that was read can't be written: %v", err)
		}
		second, err := decodeRecord(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := encodeRecord(second)
		if err != nil || !bytes.Equal(again, third) || !reflect.DeepEqual(second, mustDecode(t, third)) {
			t.Errorf("%q, then %q (%v)", again, third, err)
		}
		// One bit of what is sealed.
		if i := flip % len(again); i >= 0 {
			again[i] ^= 1
			if _, err := decodeRecord(again); err == nil {
				t.Errorf("byte %d of the record was changed: %q", i, again)
			}
		}
	})
}

func mustDecode(t *testing.T, data []byte) Record {
	t.Helper()
	rec, err := decodeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
