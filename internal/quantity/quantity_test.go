package quantity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/internal/quantity"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "20GB": 20e9, "1.5 GB": 15e8, "1GiB": 1 << 30, "64mib": 64 << 20, "3k": 3000, "2tb": 2e12, "1000B": 1000, "1PB": 1e15,
		"1000": -1, "1.5": -1, "GB": -1, "-1GB": -1, "1XB": -1, "NaN": -1, "NaNGB": -1, "Inf": -1, "": -1, "1e99PB": -1, "1Bi": -1,
	} {
		got, err := quantity.Size(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("Size(%q) = %d (%v), want %d", text, got, err, want)
		}
	}
	if _, err := quantity.Size("20"); err == nil || !strings.Contains(err.Error(), "20GB") {
		t.Errorf("a number without a unit: %v, which shows no right form", err)
	}
}

func TestAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30d": 720 * time.Hour, "2w": 336 * time.Hour, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "0": 0,
		"30": -1, "d": -1, "-1d": -1, "": -1, "soon": -1, "9999999999999999d": -1, "106751d": 106751 * 24 * time.Hour, "106752d": -1,
	} {
		got, err := quantity.Age(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("Age(%q) = %v (%v), want %v", text, got, err, want)
		}
	}
	if _, err := quantity.Age("45"); err == nil || err.Error() != `"45" is not a duration; write 45d, 12h or 4w` {
		t.Errorf("a number without a unit: %v", err)
	}
}
