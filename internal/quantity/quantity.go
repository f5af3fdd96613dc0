// Package quantity reads and writes sizes and durations as people do.
package quantity

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

var units = map[string]float64{
	"b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12, "p": 1e15, "pb": 1e15,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
}

// mostBytes is far more than there is, and can be added to itself.
const mostBytes = 1e18

// Size reads a number of bytes with a unit, such as 20GB, 1.5 MB or 64MiB. A
// number alone is not a size, but for 0: most people mean gigabytes.
func Size(text string) (int64, error) {
	short := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	number := strings.TrimRight(short, "kmgtpib")
	value, err := strconv.ParseFloat(number, 64)
	unit, known := units[short[len(number):]]
	switch {
	case err != nil || !(value >= 0):
	case number == short && value == 0:
		return 0, nil
	case number == short:
		return 0, fmt.Errorf("%q has no unit: write %sGB, %sMB or %sGiB", text, number, number, number)
	case known && value*unit <= mostBytes:
		return int64(value * unit), nil
	}
	return 0, fmt.Errorf("%q is not a size: write such as 20GB, 500MB or 20GiB", text)
}

// Age reads Go's durations, and days and weeks.
func Age(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(text, suffix)
		n, err := strconv.ParseInt(number, 10, 64)
		if ok && err == nil && n >= 0 && n <= int64(1<<63-1)/int64(unit) {
			return time.Duration(n) * unit, nil
		}
	}
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return age, nil
	}
	example := "30"
	if _, err := strconv.ParseUint(text, 10, 32); err == nil && text != "0" {
		example = text
	}
	return 0, fmt.Errorf("%q is not a duration; write %sd, 12h or 4w", text, example)
}
