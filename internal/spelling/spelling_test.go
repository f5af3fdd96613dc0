package spelling

import (
	"strings"
	"testing"
)

func TestClosest(t *testing.T) {
	words := []string{"from", "steps", "environment", "labels"}
	for word, want := range map[string]string{
		"form": "from", "FROM": "from", "stesp": "steps", "step": "steps", "enviroment": "environment",
		"lables": "labels", "from": "", "entirely": "", "": "", strings.Repeat("labels", 100): "",
	} {
		if got := Closest(word, words); got != want {
			t.Errorf("Closest(%.20q) = %q, not %q", word, got, want)
		}
	}
}
