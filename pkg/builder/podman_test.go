package builder

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNamesDriver(t *testing.T) {
	for text, want := range map[string]bool{
		"[storage]\ndriver = \"overlay\"\n": true, "[storage]\n  driver=\"vfs\"": true,
		"[storage]\n# driver = \"overlay\"\n": false, "[storage]\ndriver = \"\"\n": false, "": false,
	} {
		file := filepath.Join(t.TempDir(), "storage.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := namesDriver([]string{"/nonexistent", file}); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
